"""Following a kernel through its helpers, by its source: what it loads and stores, and where.

Statements are taken in order; an ``if`` both ways; the body of a loop twice, the second time with
what the first changed made unknown. Calls of jit functions are followed with what is known of
their arguments. Nothing is guessed: what cannot be told stays unknown, and breaks no rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeGuard

from fusedops.lint.shapes import applied, named, subscripted
from fusedops.lint.source import Function, Source, is_constexpr, parameters
from fusedops.lint.values import Term, Value, atom, broadcast, combined, number

NESTING = 12
ATOMICS = ("atomic_", "async_atomic_")
DESCRIPTOR_STORES = {"async_copy_shared_to_global", "async_store", "async_scatter"}
ASIDE = {"range", "len", "min", "max", "print", "isinstance", "int", "float", "bool", "getattr"}

Path = tuple[tuple[str, bool], ...]
Environment = dict[str, Value]
LOOP = ast.For | ast.While


@dataclass(frozen=True)
class Event:
    """A load, a store or an atomic operation in global memory, in the order of the program.

    path: the conditions under which it happens. loops: those around it, outermost first. data: what
    a store stores, what a load gives for what the mask leaves out.
    """

    kind: str
    node: ast.Call
    source: Source
    pointer: Value
    mask: Value | None
    data: Value | None
    path: Path
    loops: tuple[int, ...]
    order: int

    @property
    def accumulates(self) -> bool:
        """Whether it is an atomic operation for its effect alone, rather than for a ticket."""
        return self.kind == "atomic" and isinstance(self.source.parents[self.node], ast.Expr)

    @property
    def writes(self) -> bool:
        return self.kind == "store" or self.accumulates

    def excludes(self, other: Event) -> bool:
        """Whether no run of the kernel has both."""
        mine = dict(self.path)
        return any(mine.get(condition, truth) != truth for condition, truth in other.path)


@dataclass(frozen=True)
class Trace:
    """A kernel's events. complete: every call that was given an address has been followed."""

    source: Source
    function: Function
    events: tuple[Event, ...]
    complete: bool

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    @property
    def stored(self) -> set[str]:
        """The parameters that are written through."""
        return {event.pointer.base for event in self.of("store", "atomic")} - {""}


@lru_cache(maxsize=4)
def traces(source: Source) -> list[Trace]:
    """Of every jit function that no other one of the file calls."""
    functions = list(dict.fromkeys(source.jitted.values()))
    called = {
        node.func.id
        for function in functions
        for node in source.within(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id != function.name
    }
    roots = [each for each in functions if each.name not in called] or functions
    return [Tracer(source).run(each) for each in roots]


def is_kernel(source: Source, function: Function) -> bool:
    """Whether it is launched, so that its parameters are scalars, rather than called."""
    launched = any(launch.function is function for launch in source.launches)
    counts = any(
        source.language(node) == "program_id"
        for node in source.within(function)
        if isinstance(node, ast.Call)
    )
    helps = any(
        isinstance(node, ast.Name) and node.id == function.name
        for other in source.jitted.values()
        for node in source.within(other)
    )
    return launched or len(function.decorator_list) > 1 or (counts and not helps)


def is_used_as_one(source: Source, function: Function) -> bool:
    """Whether nothing says that a root which stores is a helper: it gives nothing back, makes its
    own blocks, and uses no parameter as a tensor."""
    calls = [source.language(node) for node in source.within(function) if _is_call(node)]
    owned = [
        node.value
        for node in source.within(function)
        if isinstance(node, ast.Subscript | ast.Attribute)
    ]
    mine = set(parameters(function))
    gives = (each for each in source.within(function) if isinstance(each, ast.Return))
    return (
        "arange" in calls
        and "store" in calls
        and not any(each.value is not None for each in gives)
        and not any(isinstance(each, ast.Name) and each.id in mine for each in owned)
    )


class Tracer:
    """One run through one kernel."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.events: list[Event] = []
        self.complete = True
        self.path: Path = ()
        self.loops: tuple[int, ...] = ()
        self.loop_count = 0
        self.calls: list[Function] = []
        self.returned: list[Value] = []
        self.recording = True

    def run(self, function: Function) -> Trace:
        scalars = is_kernel(self.source, function) or is_used_as_one(self.source, function)
        environment = {}
        for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
            scalar = scalars or is_constexpr(self.source, each.annotation) or "ptr" in each.arg
            environment[each.arg] = atom(each.arg, () if scalar else None, base=each.arg)
        self.calls.append(function)
        self.block(function.body, environment)
        return Trace(self.source, function, tuple(self.events), self.complete)

    # --- statements ---------------------------------------------------------------------------

    def block(self, body: list[ast.stmt], environment: Environment) -> None:
        before = self.path
        for statement in body:
            self.statement(statement, environment)
            if isinstance(statement, ast.If) and _leaves(statement.body) and not statement.orelse:
                condition, truth = self.condition(statement.test, environment)
                self.path = (*self.path, (condition, not truth))
        self.path = before

    def statement(self, node: ast.stmt, environment: Environment) -> None:
        if isinstance(node, ast.Assign):
            value = self.value(node.value, environment)
            for target in node.targets:
                self.assign(target, value, environment)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value, environment), environment)
        elif isinstance(node, ast.AugAssign):
            together = ast.BinOp(_loaded(node.target), node.op, node.value)
            value = self.value(ast.copy_location(together, node), environment)
            self.assign(node.target, value, environment)
        elif isinstance(node, ast.If):
            self.choice(node, environment)
        elif isinstance(node, ast.For | ast.While):
            self.loop(node, environment)
        elif isinstance(node, ast.With):
            for item in node.items:
                self.value(item.context_expr, environment)
            self.block(node.body, environment)
        elif isinstance(node, ast.Return):
            self.returned.append(
                Value() if node.value is None else self.value(node.value, environment)
            )
        elif isinstance(node, ast.Expr | ast.Assert):
            self.value(node.value if isinstance(node, ast.Expr) else node.test, environment)

    def assign(self, target: ast.expr, value: Value, environment: Environment) -> None:
        if isinstance(target, ast.Name):
            environment[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = value.items or ()
            for index, each in enumerate(target.elts):
                known = len(items) == len(target.elts)
                self.assign(each, items[index] if known else Value(), environment)

    def condition(self, test: ast.expr, environment: Environment) -> tuple[str, bool]:
        """A condition's name, and whether it holds where the test does."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            name, truth = self.condition(test.operand, environment)
            return name, not truth
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotEq | ast.IsNot):
            opposite = ast.Eq() if isinstance(test.ops[0], ast.NotEq) else ast.Is()
            positive = ast.copy_location(
                ast.Compare(test.left, [opposite, *test.ops[1:]], test.comparators), test
            )
            return self.condition(positive, environment)[0], False
        recording, self.recording = self.recording, False
        text = self.value(test, environment).text
        self.recording = recording
        return text or f"{ast.unparse(test)} in line {test.lineno}", True

    def choice(self, node: ast.If, environment: Environment) -> None:
        condition, truth = self.condition(node.test, environment)
        self.value(node.test, environment)
        before, outcomes = self.path, []
        for body, holds in ((node.body, truth), (node.orelse, not truth)):
            self.path = (*before, (condition, holds))
            outcome = dict(environment)
            self.block(body, outcome)
            if not _leaves(body):
                outcomes.append(outcome)
        self.path = before
        if outcomes:
            merge(environment, outcomes, f"in line {node.lineno}", frozenset())

    def loop(self, node: LOOP, environment: Environment) -> None:
        self.loop_count += 1
        loop = self.loop_count
        again = frozenset((loop,))
        if isinstance(node, ast.For):
            self.value(node.iter, environment)
        self.loops = (*self.loops, loop)
        recording, self.recording = self.recording, False
        for final in (False, True):
            self.recording = recording and final
            outcome = dict(environment)
            if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                outcome[node.target.id] = atom(f"{node.target.id}@{loop}", (), again)
            if isinstance(node, ast.While):
                self.value(node.test, outcome)
            self.block(node.body, outcome)
            merge(environment, [environment, outcome], f"@{loop}", again)
        self.recording = recording
        self.loops = self.loops[:-1]
        self.block(node.orelse, environment)

    # --- expressions --------------------------------------------------------------------------

    def value(self, node: ast.expr, environment: Environment) -> Value:
        found = getattr(self, f"_{type(node).__name__}", None)
        if found is not None:
            value: Value = found(node, environment)
            return value
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child, environment)
        return Value()

    def _Constant(self, node: ast.Constant, environment: Environment) -> Value:
        return number(node.value)

    def _Name(self, node: ast.Name, environment: Environment) -> Value:
        if node.id in environment:
            return environment[node.id]
        constant = self.source.constant(node, self.source.tree)
        return number(constant) if constant is not None else Value(is_function=node.id)

    def _Tuple(self, node: ast.Tuple | ast.List, environment: Environment) -> Value:
        items = tuple(self.value(each, environment) for each in node.elts)
        return combined("({})", items, (), items=items)

    _List = _Tuple

    def _BinOp(self, node: ast.BinOp, environment: Environment) -> Value:
        left, right = self.value(node.left, environment), self.value(node.right, environment)
        shape = broadcast(left.shape, right.shape)
        if isinstance(node.op, ast.Add | ast.Sub):
            if right.text == "0":
                return left
            if left.text == "0" and isinstance(node.op, ast.Add):
                return right
            base = left.base or right.base
            if isinstance(node.op, ast.Sub):
                right = combined("-({})", (right,), right.shape)
            known = left.terms and right.terms
            return Value(shape, (*left.terms, *right.terms) if known else (), base)
        return combined(f"{type(node.op).__name__}({{}}, {{}})", (left, right), shape)

    def _UnaryOp(self, node: ast.UnaryOp, environment: Environment) -> Value:
        operand = self.value(node.operand, environment)
        return combined(f"{type(node.op).__name__}({{}})", (operand,), operand.shape)

    def _Compare(self, node: ast.Compare, environment: Environment) -> Value:
        operands = [self.value(each, environment) for each in (node.left, *node.comparators)]
        symbols = " ".join(type(each).__name__ for each in node.ops)
        shape = broadcast(*(each.shape for each in operands))
        return combined(symbols + "({})" * len(operands), tuple(operands), shape)

    def _BoolOp(self, node: ast.BoolOp, environment: Environment) -> Value:
        operands = tuple(self.value(each, environment) for each in node.values)
        symbol = type(node.op).__name__
        return combined(
            symbol + "({})" * len(operands), operands, broadcast(*(each.shape for each in operands))
        )

    def _IfExp(self, node: ast.IfExp, environment: Environment) -> Value:
        self.value(node.test, environment)
        one, other = self.value(node.body, environment), self.value(node.orelse, environment)
        return one if one == other else Value(base=one.base if one.base == other.base else "")

    def _Attribute(self, node: ast.Attribute, environment: Environment) -> Value:
        qualified = self.source.qualified(node)
        if qualified:
            return atom(qualified, ())
        owner = self.value(node.value, environment)
        if node.attr == "T" and owner.shape is not None:
            return combined("T({})", (owner,), owner.shape[::-1])
        if node.attr == "shape" and owner.shape:
            items = tuple(atom(length, ()) for length in owner.shape)
            return combined("({})" * len(items), items, (), items=items)
        shape = () if node.attr in ("dtype", "shape") else None
        return combined(f"{{}}.{node.attr}", (owner,), shape)

    def _Subscript(self, node: ast.Subscript, environment: Environment) -> Value:
        owner = self.value(node.value, environment)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if owner.items is not None:
            index = self.source.constant(node.slice, self.source.tree)
            inside = index is not None and -len(owner.items) <= index < len(owner.items)
            return owner.items[index] if index is not None and inside else Value()
        indices = tuple(
            Value() if isinstance(each, ast.Slice) else self.value(each, environment)
            for each in parts
        )
        of_shape = isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
        shape = () if of_shape else subscripted(owner.shape, parts)
        text = "{}[" + ", ".join(map(ast.unparse, parts)).replace("{", "").replace("}", "") + "]"
        result = combined(text, (owner,), shape)
        varies = result.varies.union(*(each.varies for each in indices))
        return Value(
            shape, tuple(replace(term, varies=varies) for term in result.terms), owner.base
        )

    def _Call(self, node: ast.Call, environment: Environment) -> Value:
        arguments = tuple(
            self.value(each.value if isinstance(each, ast.Starred) else each, environment)
            for each in node.args
        )
        keywords = {
            each.arg: self.value(each.value, environment) for each in node.keywords if each.arg
        }
        name = self.source.language(node)
        if name:
            return self.language(name, node, arguments, keywords)
        callee = node.func
        qualified = self.source.qualified(callee)
        if ".language." in qualified and "tma" in qualified.split("."):
            return self.tensor_memory(qualified.rsplit(".", maxsplit=1)[1], node, arguments)
        if isinstance(callee, ast.Name):
            function = environment.get(callee.id, Value(is_function=callee.id)).is_function
            found = self.find(function)
            if found is not None:
                return self.follow(*found, node, arguments, keywords)
            if callee.id not in ASIDE:
                self.unfollowed(arguments, keywords)
            return Value()
        if isinstance(callee, ast.Attribute) and not qualified:
            owner = self.value(callee.value, environment)
            return self.method(callee.attr, owner, node, arguments, keywords)
        if ".language." not in qualified:
            self.unfollowed(arguments, keywords)
        return Value()

    def unfollowed(self, arguments: tuple[Value, ...], keywords: dict[str, Value]) -> None:
        if any(value.base for value in (*arguments, *keywords.values())):
            self.complete = False

    # --- calls --------------------------------------------------------------------------------

    def find(self, name: str) -> tuple[Source, Function] | None:
        if name in self.source.jitted:
            return self.source, self.source.jitted[name]
        return self.source.imported_function(name)

    def follow(
        self,
        source: Source,
        function: Function,
        node: ast.Call,
        arguments: tuple[Value, ...],
        keywords: dict[str, Value],
    ) -> Value:
        """What a jit function returns, after its events; a recursion is followed once."""
        if function in self.calls or len(self.calls) > NESTING:
            return Value()
        spread = any(isinstance(each, ast.Starred) for each in node.args)
        names = parameters(function)
        inner = {name: Value() for name in names}
        for name, default in _defaults(function):
            inner[name] = self.value(default, {})
        if not spread:
            inner.update(zip(names, arguments, strict=False))
            inner.update((name, value) for name, value in keywords.items() if name in names)
        outer = self.source, self.returned
        self.source, self.returned = source, []
        self.calls.append(function)
        self.block(function.body, inner)
        self.calls.pop()
        returned = self.returned
        self.source, self.returned = outer
        if len(set(returned)) == 1:
            return returned[0]
        shapes = {each.shape for each in returned}
        return Value(shapes.pop() if len(shapes) == 1 else None)

    def language(
        self, name: str, node: ast.Call, arguments: tuple[Value, ...], keywords: dict[str, Value]
    ) -> Value:
        """A function of Triton's language."""
        given = named(name, arguments, keywords)
        pointer = next(iter(given.values()), Value())
        if name == "constexpr":
            return pointer
        if name == "load":
            moment = len(self.events)  # a load after a store may give something else
            self.record(name, node, pointer, given.get("mask"), given.get("other"))
            return combined(f"load {moment}({{}})", (pointer,), pointer.shape)
        if name == "store":
            self.record(name, node, pointer, given.get("mask"), given.get("value"))
        elif name.startswith(ATOMICS):
            self.record("atomic", node, pointer, given.get("mask"), None)
            return combined(f"{name} {len(self.events)}({{}})", (pointer,), pointer.shape)
        elif name in ("load_tensor_descriptor", "store_tensor_descriptor"):
            self.record(name.split("_", maxsplit=1)[0], node, placed(arguments), None, None)
        elif name == "inline_asm_elementwise":
            self.unfollowed(tuple(each for one in arguments for each in one.items or (one,)), {})
        elif name == "warp_specialize":
            self.complete = False  # the partitions are followed by themselves
        return applied(name, arguments, keywords)

    def method(
        self,
        name: str,
        owner: Value,
        node: ast.Call,
        arguments: tuple[Value, ...],
        keywords: dict[str, Value],
    ) -> Value:
        """A method of a tensor, or of a tensor descriptor, which takes coordinates."""
        if name in ("load", "store") or name.startswith(ATOMICS):
            if arguments and arguments[0].items is not None:
                kind = name if name in ("load", "store") else "atomic"
                self.record(kind, node, placed((owner, *arguments)), None, None)
            return Value()
        return applied(name, (owner, *arguments), keywords)

    def tensor_memory(self, name: str, node: ast.Call, arguments: tuple[Value, ...]) -> Value:
        """Gluon's copies by TMA."""
        if name in DESCRIPTOR_STORES or name.startswith(ATOMICS):
            kind = "store" if name in DESCRIPTOR_STORES else "atomic"
            self.record(kind, node, placed(arguments), None, None)
        elif name.startswith("async_") and len(arguments) > 1:
            self.record("load", node, placed(arguments), None, None)
        return Value()

    def record(
        self, kind: str, node: ast.Call, pointer: Value, mask: Value | None, data: Value | None
    ) -> None:
        if self.recording:
            order = len(self.events)
            self.events.append(
                Event(kind, node, self.source, pointer, mask, data, self.path, self.loops, order)
            )


def placed(arguments: tuple[Value, ...]) -> Value:
    """The address of a descriptor's block: the descriptor, moved by its coordinates."""
    owner = arguments[0]
    coordinates = (arguments[1].items if len(arguments) > 1 else None) or ()
    if not coordinates or not owner.terms or not all(each.terms for each in coordinates):
        return Value(base=owner.base)
    moves = (
        Term(f"{dimension}: {each.text}", True, each.varies)
        for dimension, each in enumerate(coordinates)
    )
    return Value(None, (*owner.terms, *moves), owner.base)


def merge(
    environment: Environment, outcomes: list[Environment], where: str, varies: frozenset[int]
) -> None:
    """Keep of every name what all outcomes agree on."""
    names = set().union(*outcomes)
    for name in names:
        values = [outcome.get(name, Value()) for outcome in outcomes]
        first = values[0]
        if all(value == first for value in values):
            environment[name] = first
            continue
        shape = first.shape if all(value.shape == first.shape for value in values) else None
        base = first.base if all(value.base == first.base for value in values) else ""
        changes = varies.union(*(value.varies for value in values))
        environment[name] = atom(f"{name} {where}", shape, changes, base)


def _is_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call)


def _leaves(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Return)


def _loaded(target: ast.expr) -> ast.expr:
    return ast.copy_location(ast.parse(ast.unparse(target), mode="eval").body, target)


def _defaults(function: Function) -> Iterator[tuple[str, ast.expr]]:
    arguments = [*function.args.posonlyargs, *function.args.args]
    late = arguments[len(arguments) - len(function.args.defaults) :]
    yield from zip((each.arg for each in late), function.args.defaults, strict=True)
