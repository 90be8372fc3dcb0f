"""What is known of a value in a jit function without running it: shape, address, origin."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

Shape = tuple[str, ...] | None
"""A length for each dimension, as the source writes it; () of a scalar; None: unknown."""

UNKNOWN = "?"
LONGEST = 160


@dataclass(frozen=True)
class Term:
    """A summand of a value. varies: the loops in which it changes from turn to turn."""

    text: str
    scalar: bool
    varies: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Value:
    """terms: it is their sum. base: the parameter that it points into. items: of a tuple."""

    shape: Shape = None
    terms: tuple[Term, ...] = ()
    base: str = ""
    items: tuple[Value, ...] | None = None
    is_function: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The same for two expressions that are surely equal; empty where nothing is known."""
        return " + ".join(sorted(term.text for term in self.terms))

    @property
    def offsets(self) -> tuple[str, ...]:
        """Where a block of addresses lies in its tensor; empty where that is not known."""
        if not self.base or self.shape == () or self.base not in {term.text for term in self.terms}:
            return ()
        return tuple(sorted(term.text for term in self.terms if term.text != self.base))

    @property
    def varies(self) -> frozenset[int]:
        return frozenset().union(*(term.varies for term in self.terms))


def atom(
    text: str, shape: Shape = None, varies: frozenset[int] = frozenset(), base: str = ""
) -> Value:
    """A value of one term; a text too long to repeat is replaced by its digest."""
    if len(text) > LONGEST:
        text = "#" + hashlib.sha256(text.encode()).hexdigest()[:16]
    return Value(shape, (Term(text, shape == (), varies),), base)


def number(value: object) -> Value:
    return atom(repr(value), ())


def combined(
    text: str,
    parts: tuple[Value, ...],
    shape: Shape,
    base: str = "",
    items: tuple[Value, ...] | None = None,
) -> Value:
    """A value made of others; its text is known if theirs are."""
    varies: frozenset[int] = frozenset().union(*(each.varies for each in parts))
    if not all(each.terms for each in parts):
        return Value(shape, base=base, items=items)
    places = text.count("{}")
    texts = [each.text for each in parts]
    if places == 1 and len(texts) != 1:
        texts = [", ".join(texts)]
    return replace(atom(text.format(*texts), shape, varies, base), items=items)


def broadcast(*shapes: Shape) -> Shape:
    """The shape of an elementwise operation's result; Triton adds dimensions on the left."""
    result: Shape = ()
    for shape in shapes:
        if shape is None or result is None:
            return None
        longer, shorter = (result, shape) if len(result) >= len(shape) else (shape, result)
        shorter = ("1",) * (len(longer) - len(shorter)) + shorter
        result = tuple(map(_wider, longer, shorter))
    return result


def _wider(one: str, other: str) -> str:
    if other in (one, "1"):
        return one
    return other if one == "1" else UNKNOWN


def misfit(part: Shape, whole: Shape) -> str:
    """Why ``part`` cannot be broadcast to ``whole``; empty where it can, or nobody can tell."""
    if part is None or whole is None or part == ():
        return ""
    if whole == ():
        return "is a block, where the pointer is a scalar"
    if len(part) != len(whole):
        return f"has {len(part)} dimensions, where the pointer has {len(whole)}"
    for index, (one, other) in enumerate(zip(part, whole, strict=True)):
        if one not in ("1", other) and _plain(one) and _plain(other):
            return f"has {one} elements in dimension {index}, where the pointer has {other}"
    return ""


def _plain(length: str) -> bool:
    """A name or a number: two such lengths differ, while expressions might be equal."""
    return length.isidentifier() or length.isdecimal()


def elsewhere(one: Value, other: Value) -> bool:
    """Whether two addresses are the same block moved by a scalar: pieces of one result."""
    if not one.terms or not other.terms or one.text == other.text:
        return False
    left, right = list(one.terms), list(other.terms)
    for term in one.terms:
        if term in right:
            left.remove(term)
            right.remove(term)
    return all(term.scalar for term in (*left, *right))
