"""The form of a case: everything code may be compiled for, apart from its sizes and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import hypothesis
from hypothesis import strategies as st

from fusedops.verify.case import BIASES, Case
from fusedops.verify.layouts import KERNEL_LAYOUTS, LAYOUTS

ANY_SIZE = 0
_GRANULARITIES = (1, 2, 8)
_OFFSETS = (0, 1, 3, 8)


@dataclass(frozen=True, slots=True)
class Form:
    """How a case's operands are typed and laid out, and which power of two divides each size.

    A kernel compiled on demand is compiled for each of these: examples of few forms and many sizes
    test more of it than examples that are each of their own form.
    """

    dtype: str
    reduced: bool
    bias: str
    x: str
    weight: str
    x_offset: int
    weight_offset: int
    bias_offset: int
    bias_step: int
    config: int
    granularity: tuple[int, int, int]

    @property
    def awkwardness(self) -> int:
        """How many of its fields are not the plain ones."""
        plain = Case(1, 1, 1)
        named = [each.name for each in fields(self) if each.name != "granularity"]
        odd = sum(bool(getattr(self, name) != getattr(plain, name)) for name in named)
        return odd + sum(step != 8 for step in self.granularity)

    def sizes(self, m: int, n: int, k: int) -> tuple[int, ...]:
        """Sizes next to these, of this form's granularity."""
        pairs = zip((m, n, k), self.granularity, strict=True)
        return tuple(_snap(size, step) for size, step in pairs)


def forms(
    dtypes: Sequence[tuple[str, bool]], *, of_operator: bool, pooled: bool = False
) -> st.SearchStrategy[Form]:
    """Forms in one of these (dtype, reduced); with any sizes, unless they are for a pool."""
    granularity = st.sampled_from(_GRANULARITIES) if pooled else st.just(ANY_SIZE)

    def of_dtype(chosen: tuple[str, bool]) -> st.SearchStrategy[Form]:
        dtype, reduced = chosen
        return st.builds(
            Form,
            dtype=st.just(dtype),
            reduced=st.just(reduced),
            bias=st.sampled_from(BIASES[:2] if dtype == "float32" else BIASES),
            x=mostly("contiguous", LAYOUTS if of_operator else KERNEL_LAYOUTS),
            weight=mostly("contiguous", KERNEL_LAYOUTS),
            x_offset=mostly(0, _OFFSETS),
            weight_offset=mostly(0, _OFFSETS),
            bias_offset=mostly(0, _OFFSETS),
            bias_step=st.sampled_from((1, 2) if of_operator else (1,)),
            config=mostly(0, range(1, 32)),
            granularity=st.tuples(granularity, granularity, granularity),
        )

    return st.sampled_from(dtypes).flatmap(of_dtype)


def pool(strategy: st.SearchStrategy[Form], size: int, seed: int) -> tuple[Form, ...]:
    """That many forms of the strategy, the plainest first: the same for the same seed."""
    drawn: dict[Form, None] = {}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=size,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def collect(form: Form) -> None:
        drawn[form] = None

    collect()
    return tuple(sorted(drawn, key=lambda form: form.awkwardness))


def mostly(usual: Any, others: Sequence[Any]) -> st.SearchStrategy[Any]:
    """``usual`` for half of the examples."""
    return st.one_of(st.just(usual), st.sampled_from(others))


def _snap(size: int, step: int) -> int:
    if step == ANY_SIZE or size == 0:
        return size
    if step == max(_GRANULARITIES):
        return -(-size // step) * step
    return size // (2 * step) * 2 * step + step
