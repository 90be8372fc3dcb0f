"""Where the addresses of stores come from, traced through PTX to the parameters of an entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ENTRY = re.compile(r"\.entry\s+(\w+)\s*\([^)]*\)[^{]*\{(.*?)(?=\.entry\s|\.func\s|\Z)", re.DOTALL)
STATEMENT = re.compile(r"(?:@!?%?\w+\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
REGISTER = re.compile(r"%[A-Za-z]\w*")
PARAMETER = re.compile(r"\b(\w+_param_\d+)\b")
ADDRESS = re.compile(r"\[([^\]]*)\]")
OFFSET = re.compile(r"\+\s*(-?\d+)")

MEMORY = "memory"
"""The origin of an address that has itself been loaded."""

STORES = re.compile(r"st\.(\w+\.)*global\b.*|(red|atom)\.(\w+\.)*global\b.*|st\.(async\.)?bulk.*")
TENSOR_STORES = re.compile(r"cp\.(reduce\.)?async\.bulk(\.tensor\.\dd)?\.global\..*")
GENERIC_STORES = re.compile(r"st\.(volatile\.|relaxed\.\w+\.)?(v\d\.)?[bsuf]\d+")
LOADS = re.compile(r"ld\.(\w+\.)*global\b.*")
COPIES = re.compile(r"cp\.async\.c[ag]\.shared\.global.*")
NO_RESULT = re.compile(r"(st|red|bra|bar|ret|cp|mbarrier|fence|prefetch|membar|call|stmatrix)\b.*")

Origin = tuple[str, int]
"""A parameter, and the byte of it."""


@dataclass(frozen=True)
class Instruction:
    name: str
    operands: str

    @property
    def address(self) -> str:
        """What the first brackets hold, or, of a copy into shared memory, the second."""
        found = ADDRESS.findall(self.operands)
        return str(found[1 if COPIES.fullmatch(self.name) else 0])


class Entry:
    """One kernel's instructions."""

    def __init__(self, name: str, body: str) -> None:
        self.name = name
        self.instructions = list(_parsed(body))
        self.definitions: dict[str, list[tuple[Instruction, str]]] = {}
        for each in self.instructions:
            if NO_RESULT.fullmatch(each.name):
                continue
            result, _, rest = _split(each.operands)
            for register in REGISTER.findall(result):
                self.definitions.setdefault(register, []).append((each, rest))

    def select(self, *patterns: re.Pattern[str]) -> list[Instruction]:
        return [
            each
            for each in self.instructions
            if any(pattern.fullmatch(each.name) for pattern in patterns)
        ]

    def origins(self, address: str) -> set[Origin]:
        """Every parameter that an address is computed from, its offsets in elements included."""
        found: set[Origin] = set()
        waiting = [address]
        seen: set[str] = set()
        while waiting:
            text = waiting.pop()
            found.update((name, _offset(text)) for name in PARAMETER.findall(text))
            for register in set(REGISTER.findall(text)) - seen:
                seen.add(register)
                for instruction, sources in self.definitions.get(register, []):
                    if instruction.name.startswith("ld.param"):
                        found.add(self._field(sources))
                    elif re.match(r"(ld|atom)\.", instruction.name):
                        found.add((MEMORY, 0))
                    else:
                        waiting.append(sources)
        return found

    def converted(self) -> set[Origin]:
        """The parameters that are turned into global addresses as they are: nvcc's pointers."""
        return {
            origin
            for each in self.instructions
            if each.name.startswith("cvta.to.global")
            for register in REGISTER.findall(_split(each.operands)[2])
            for definition, sources in self.definitions.get(register, [])
            if definition.name.startswith("ld.param")
            for origin in [self._field(sources)]
        }

    def _field(self, address: str) -> Origin:
        """The parameter, and the byte of it, that ``ld.param`` reads."""
        offset = 0
        while True:
            offset += _offset(address)
            symbol = PARAMETER.search(address)
            if symbol:
                return symbol[1], offset
            register = REGISTER.search(address)
            definitions = self.definitions.get(register[0], []) if register else []
            if len(definitions) != 1:
                return MEMORY, 0
            instruction, sources = definitions[0]
            if not re.match(r"(mov|add|cvta)\b", instruction.name):
                return MEMORY, 0
            address = sources.replace(", ", "+") if "add" in instruction.name else sources


def entries(text: str) -> dict[str, Entry]:
    return {name: Entry(name, body) for name, body in ENTRY.findall(text)}


def _parsed(body: str) -> Iterator[Instruction]:
    lines = (re.sub(r"//.*", "", line).strip() for line in body.splitlines())
    kept = (
        line
        for line in lines
        if not re.match(r"\.(loc|file|section|pragma)\b|[$\w%]+:$|\.reg\b.*|\.local\b.*", line)
    )
    for statement in " ".join(kept).split(";"):
        found = STATEMENT.fullmatch(statement.strip().lstrip("{} \t"))
        if found:
            yield Instruction(found[1], found[2].strip())


def _split(operands: str) -> tuple[str, str, str]:
    """The result, which may be a vector in braces, and the rest."""
    if operands.startswith("{"):
        inside, _, rest = operands.partition("}")
        return inside, "}", rest
    return operands.partition(",")


def _offset(text: str) -> int:
    return sum(map(int, OFFSET.findall(text)))
