"""Functions that Triton lacks."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from fusedops.lint.rules.rule import Findings, Rule
from fusedops.lint.source import Source

INSTEAD = {
    "tanh": "2 / (1 + exp(-2 x)) - 1",
    "sigmoid": "1 / (1 + exp(-x))",
    "gelu": "x / 2 * (1 + erf(x / sqrt(2)))",
    "silu": "x / (1 + exp(-x))",
    "softmax": "exp(x - max(x)) / sum(exp(x - max(x)))",
    "mish": "x * tanh(log(1 + exp(x))), tanh written out",
}
"""The list of the rules. Releases of Triton differ in what they have of it."""

NAMES = """
    PropagateNan abs add advance aggregate_replace arange argmax argmin associative_scan
    assume atomic_add atomic_and atomic_cas atomic_load atomic_max atomic_min atomic_or
    atomic_poll atomic_store atomic_xchg atomic_xor bitonic_merge block_type broadcast
    broadcast_to cast cat cdiv ceil clamp condition const constexpr constexpr_type cos
    cumprod cumsum debug_barrier device_assert device_print div_rn dot dot_scaled dtype erf
    exp exp2 expand_dims expect_zero fdiv flip floor fma full gather histogram
    inline_asm_elementwise interleave join load load_tensor_descriptor log log2
    make_block_ptr make_tensor_descriptor map_elementwise max max_constancy max_contiguous
    maximum min minimum mul multiple_of num_programs pair_uniform_to_normal permute philox
    philox_impl pointer_type program_id rand rand4x randint randint4x randn randn4x range
    ravel reduce reduce_or reshape rsqrt sigmoid sin slice softmax sort split sqrt sqrt_rn
    squeeze static_assert static_print static_range store store_tensor_descriptor str_to_ty
    sub sum swizzle2d tensor tensor_descriptor tensor_descriptor_type to_tensor topk trans
    tuple tuple_type uint_to_uniform_float umulhi unsqueeze view where xor_sum zeros
    zeros_like
"""
"""triton.language of the releases 3.6 to 3.9."""

MATH_NAMES = (
    "abs ceil cos div_rn erf exp exp2 fdiv floor fma log log2 rsqrt sin sqrt sqrt_rn umulhi"
)
HOST = re.compile(r"(torch|numpy|math)\..*")
TENSORS_ONLY = "math"
"""What Python does to constants is done while Triton compiles."""


def check(source: Source) -> Findings:
    for function, call in source.jitted_calls():
        qualified = source.qualified(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) and not qualified else ""
        if method in INSTEAD:
            yield call, f"Triton has no {method} in every release: write {INSTEAD[method]}"
        host = HOST.fullmatch(qualified)
        if host and (host[1] != TENSORS_ONLY or _of_a_tensor(source, function, call)):
            yield call, f"{qualified} is called in {function.name}: kernels have no {host[1]}"
        if qualified.startswith("triton.language.libdevice."):
            yield call, "Triton has no tl.libdevice: import it from triton.language.extra"
        found = re.fullmatch(r"triton\.(experimental\.gluon\.)?language\.(math\.)?(\w+)", qualified)
        if not found:
            continue
        gluon, math, name = found.groups()
        if name in INSTEAD:
            yield call, f"Triton has no {name} in every release: write {INSTEAD[name]}"
        elif (
            not gluon
            and name not in (MATH_NAMES if math else NAMES).split()
            and not _has(math, name)
        ):
            yield call, f"Triton has no {name}: write it in terms of what it has, or use libdevice"


def _of_a_tensor(source: Source, function: ast.FunctionDef, call: ast.Call) -> bool:
    named = {each.id for each in ast.walk(call) if isinstance(each, ast.Name)}
    return bool(named & source.tensors(function))


@cache
def _has(math: str | None, name: str) -> bool:
    """Whether the installed release, which may be newer than the list, has a function."""
    if find_spec("triton") is None:
        return False
    module = import_module("triton.language.math" if math else "triton.language")
    return hasattr(module, name)


RULE = Rule(
    "missing-function",
    "Missing Triton Functions (implement manually): tl.tanh, tl.sigmoid, tl.gelu, tl.silu, "
    "tl.softmax, tl.mish",
    "No kernel calls one of these, another function that `triton.language` does not have, or one "
    "of torch's or NumPy's; nor one of Python's `math` on a tensor.",
    check,
)
