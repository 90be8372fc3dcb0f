"""What a compiled kernel's figures say to try next: warps and stages, rule by rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fusedops.registry import BackwardProblem, Problem
from fusedops.tune.trial import Resources


@dataclass(frozen=True)
class Setting:
    """How many warps a block has, and how many blocks of operands are in flight."""

    warps: int
    stages: int

    def __str__(self) -> str:
        return f"{self.warps} warps, {self.stages} stages"


FEW_WARPS, MANY_WARPS = 4, 8
FEW_STAGES, MANY_STAGES = 2, 3
CONSERVATIVE = Setting(FEW_WARPS, FEW_STAGES)
MOST_OF_A_ROUND = 4
FEW_REGISTERS, MANY_REGISTERS = 96, 128
MANY_LOADS = 3


@dataclass(frozen=True)
class Facts:
    """What the rules look at: a configuration's figures, and its setting.

    loads: the tensors that the kernel reads.
    """

    resources: Resources
    loads: int
    setting: Setting


@dataclass(frozen=True)
class Advice:
    """Settings to try, in this order, and why: the rule and the numbers that caused it."""

    rule: str
    because: str
    settings: tuple[Setting, ...]

    def __str__(self) -> str:
        settings = "; ".join(map(str, self.settings))
        return f"{self.rule} ({self.because}): {f'try {settings}' if settings else 'stay'}"


def low_registers(facts: Facts) -> Advice | None:
    """Registers to spare: more warps share the work, or more stages hide the latency."""
    found, now = facts.resources, _within(facts.setting)
    if found.registers >= FEW_REGISTERS or found.local_bytes:
        return None
    return Advice(
        "low_registers",
        f"{found.registers} registers, below {FEW_REGISTERS}, and no spill",
        _apart_from(
            facts.setting,
            Setting(MANY_WARPS, now.stages),
            Setting(now.warps, MANY_STAGES),
            Setting(MANY_WARPS, MANY_STAGES),
        ),
    )


def high_registers(facts: Facts) -> Advice | None:
    """Registers are short: fewer warps leave each more of them, fewer stages need fewer."""
    found = facts.resources
    many = found.registers > MANY_REGISTERS
    if not many and found.limiter != "registers":
        return None
    because = f"{found.registers} registers, above {MANY_REGISTERS}" if many else ""
    if found.limiter == "registers":
        limited = f"registers limit a multiprocessor to {found.blocks} blocks"
        because = f"{because}; {limited}" if because else f"{limited}, {found.registers} a thread"
    return Advice("high_registers", because, _apart_from(facts.setting, CONSERVATIVE))


def many_loads(facts: Facts) -> Advice | None:
    """Every stage holds a block of every input: two stages, and four warps."""
    if facts.loads < MANY_LOADS:
        return None
    now = _within(facts.setting)
    fewer_stages, fewer_warps = Setting(now.warps, FEW_STAGES), Setting(FEW_WARPS, now.stages)
    return Advice(
        "many_loads",
        f"{facts.loads} distinct loads, {MANY_LOADS} or more",
        _apart_from(facts.setting, CONSERVATIVE, fewer_stages, fewer_warps),
    )


RULES = (high_registers, many_loads, low_registers)


def advice(facts: Facts) -> list[Advice]:
    """What every rule that fires says."""
    return [each for rule in RULES if (each := rule(facts)) is not None]


def next_round(given: Iterable[Advice]) -> dict[Setting, str]:
    """The settings to try next, at most four, and why each; the conservative one among them."""
    wanted = {CONSERVATIVE: "the conservative baseline is in every round"}
    for each in given:
        for setting in each.settings:
            why = f"{each.rule}: {each.because}"
            if setting == CONSERVATIVE:
                wanted[setting] = why
            else:
                wanted.setdefault(setting, why)
    return dict(list(wanted.items())[:MOST_OF_A_ROUND])


def distinct_loads(problem: Problem) -> int:
    """The tensors a kernel reads: x, weight and bias; of a gradient, grad and y or z."""
    optional = [problem.scale_dtype is not None]
    if not isinstance(problem, BackwardProblem):
        optional.append(problem.bias_dtype is not None)
    return 2 + sum(optional)


def _within(setting: Setting) -> Setting:
    """The nearest of those that are tried: some kernels' own have more of either."""
    return Setting(
        FEW_WARPS if setting.warps <= FEW_WARPS else MANY_WARPS,
        FEW_STAGES if setting.stages <= FEW_STAGES else MANY_STAGES,
    )


def _apart_from(now: Setting, *settings: Setting) -> tuple[Setting, ...]:
    return tuple(dict.fromkeys(each for each in settings if each != now))
