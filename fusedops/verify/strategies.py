"""Hypothesis draws cases: sizes around tile edges, every layout, awkward data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from hypothesis import strategies as st

from fusedops.checks import DTYPES
from fusedops.registry import Kernel, dtype_name
from fusedops.verify.case import Case
from fusedops.verify.fit import fit
from fusedops.verify.forms import Form, forms, mostly, pool

_EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
_LARGE_EDGES = (384, 511, 512, 513, 640, 1023, 1024, 2049, 4096)
_PRIMES = (3, 5, 13, 37, 61, 97, 113, 193, 251, 509, 769, 1021)
_LONG_K = (2048, 4096, 8191, 8192, 16384)
_SCALES = st.sampled_from((1.0, 2.0, -3.0, 0.0, -0.1, 0.5, 1e4, -7e4))
_MAGNITUDES = mostly(1.0, (1e-3, 30.0, 1e3))
_SPECIALS = mostly(
    (),
    [
        *((f"{v}@{where}",) for v in ("nan", "inf", "-inf") for where in ("x", "weight", "bias")),
        ("inf@x", "-inf@weight"),
    ],
)
_DATA = st.sampled_from(("normal", "positive", "integers"))
_SEEDS = st.integers(0, 2**20)
_EXAMPLES_OF_A_FORM = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an example may be: a size, a sum's length, and the product of all three."""

    size: int
    k: int
    product: int

    @classmethod
    def of(cls, device: torch.device, *, interpreted: bool = False) -> Limits:
        if device.type == "cuda":
            return cls(4100, 16384, 1 << 29)
        return cls(80, 96, 1 << 17) if interpreted else cls(260, 520, 1 << 20)


@dataclass(frozen=True, slots=True)
class Pooling:
    """How many examples share a form, where code is compiled on demand; and the pool's seed."""

    examples: int
    seed: int

    @property
    def forms(self) -> int:
        return max(12, self.examples // _EXAMPLES_OF_A_FORM)


def kernel_cases(
    kernel: Kernel,
    plain: Sequence[Case],
    limits: Limits,
    device: torch.device,
    pooling: Pooling | None,
) -> st.SearchStrategy[Case]:
    """Cases that the kernel accepts; ``plain`` are ``fit.plain_cases`` of it."""
    start = {(case.dtype, case.reduced): case for case in plain}
    drawn_forms = _forms(list(start), pooling, of_operator=False)

    @st.composite
    def draw_fitted(draw: st.DrawFn) -> Case:
        wanted = draw(_cases(limits, drawn_forms, of_operator=False))
        return fit(kernel, start[wanted.dtype, wanted.reduced], wanted, device)

    return draw_fitted()


def op_cases(
    targets: Sequence[tuple[Kernel, Case]],
    limits: Limits,
    device: torch.device,
    pooling: Pooling | None,
) -> st.SearchStrategy[Case]:
    """Cases for the operator as a whole: empty ones and copied layouts as well.

    ``targets`` are the kernels of the backend asked for, each with a plain case that it takes: half
    of the examples in its dtypes are made to suit one of them.
    """
    dtypes = [(case.dtype, case.reduced) for _, case in targets]
    everything = [(dtype_name(dtype), False) for dtype in DTYPES]
    drawn_forms = _forms(list(dict.fromkeys(dtypes)) or everything, pooling, of_operator=True)

    @st.composite
    def draw_op(draw: st.DrawFn) -> Case:
        case = draw(_cases(limits, drawn_forms, of_operator=True))
        suited = [
            (kernel, plain)
            for kernel, plain in targets
            if (plain.dtype, plain.reduced) == (case.dtype, case.reduced)
        ]
        if not suited or 0 in (case.m, case.n, case.k) or draw(st.booleans()):
            return case
        kernel, plain = draw(st.sampled_from(suited))
        return fit(kernel, plain, case, device)

    return draw_op()


def _forms(
    dtypes: Sequence[tuple[str, bool]], pooling: Pooling | None, *, of_operator: bool
) -> st.SearchStrategy[Form]:
    if pooling is None:
        return forms(dtypes, of_operator=of_operator)
    some = forms(dtypes, of_operator=of_operator, pooled=True)
    return st.sampled_from(pool(some, pooling.forms, pooling.seed))


@st.composite
def _cases(
    draw: st.DrawFn, limits: Limits, drawn_forms: st.SearchStrategy[Form], *, of_operator: bool
) -> Case:
    form = draw(drawn_forms)
    smallest = 0 if of_operator else 1
    m = draw(_sizes(smallest, limits.size))
    n = min(draw(_sizes(smallest, limits.size)), max(limits.product // max(m, 1), 1))
    k = min(draw(_sizes(smallest, limits.k)), max(limits.product // max(m * n, 1), 1))
    m, n, k = form.sizes(m, n, k)
    data = draw(_DATA)
    exact = data == "integers" and draw(st.booleans())
    return Case(
        m=m,
        n=n,
        k=k,
        dtype=form.dtype,
        bias=form.bias,
        scale=0.0 if exact else draw(_SCALES),
        x=form.x,
        weight=form.weight,
        x_offset=form.x_offset,
        weight_offset=form.weight_offset,
        bias_offset=form.bias_offset,
        bias_step=form.bias_step,
        batch=draw(_batches(m, of_operator)),
        data=data,
        magnitude=draw(_MAGNITUDES),
        specials=draw(_SPECIALS),
        reduced=form.reduced,
        config=form.config,
        seed=draw(_SEEDS),
    )


@cache
def _sizes(smallest: int, largest: int) -> st.SearchStrategy[int]:
    largest = max(largest, smallest)
    named = [s for s in (*_EDGES, *_LARGE_EDGES) if smallest <= s <= largest]
    primes = [s for s in _PRIMES if s <= largest]
    long = [s for s in _LONG_K if s <= largest]
    choices: list[st.SearchStrategy[int]] = [
        st.sampled_from(([0] if smallest == 0 else []) + (named or [largest])),
        st.sampled_from(primes or [largest]),
        st.integers(min(max(smallest, 1), largest), min(largest, 300)),
    ]
    if long:
        choices.append(st.sampled_from(long))
    return st.one_of(choices)


def _batches(m: int, of_operator: bool) -> st.SearchStrategy[int]:
    divisors = tuple(b for b in (1, 2, 3, 5, 8) if m and m % b == 0)
    return _one_of_batches((*divisors, -1) if of_operator and m == 1 else divisors)


@cache
def _one_of_batches(batches: tuple[int, ...]) -> st.SearchStrategy[int]:
    return mostly(0, batches or (0,))
