"""The float32 kernels on a card: hard mantissas, long sums of one sign, infinities, any layout."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from fusedops import backends, numerics
from fusedops.plans import describe
from fusedops.registry import Kernel
from fusedops.verify.case import Case
from fusedops.verify.properties import precision

pytestmark = pytest.mark.gpu

NAMES = ("cuda.sm90_fp32_split", "cuda.simt", "cuda.skinny_fp32", "cuda.sm90_tf32")
Operand = Callable[[int, int, torch.Generator], torch.Tensor]


def normal(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, k, generator=generator, device="cuda")


def positive(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(rows, k, generator=generator, device="cuda")


def mantissas(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """Numbers in [1, 2) whose 16-bit pieces are as large as they get."""
    hard = (0x7FFFFF, 0x007FFF, 0x008000, 0x007F80, 0x00807F, 0x7F7F7F, 0x7EFFFF, 0x000FFF, 1)
    some = torch.randint(len(hard), (rows, k), generator=generator, device="cuda")
    bits = torch.tensor(hard, dtype=torch.int32, device="cuda")[some] | 0x3F800000
    return bits.view(torch.float32)


def wide(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    exponents = torch.randint(-30, 31, (rows, k), generator=generator, device="cuda")
    return torch.ldexp(normal(rows, k, generator), exponents)


def subnormal(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    return normal(rows, k, generator) * 2.0**-120 * 2.0**-12


def huge(rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    return normal(rows, k, generator).sign() * 2.0**125


def some_rows(name: str, many: int) -> int:
    """Of x: as many, or as the kernel takes."""
    return min(many, 27) if name == "cuda.skinny_fp32" else many


def kernel_for(name: str, *operands: torch.Tensor) -> Kernel:
    kernel = next((each for each in backends.kernels() if each.name == name), None)
    if kernel is None:
        pytest.skip(f"{name} is not built here")
    if reasons := kernel.why_not(describe(*operands)):
        pytest.skip(f"{name}: {'; '.join(reasons)}")
    return kernel


def fractions_of_bound(name: str, x: torch.Tensor, weight: torch.Tensor) -> list[float]:
    """The worst error over the bound, for every configuration of the kernel."""
    with precision(Case(1, 1, 1, reduced=name == "cuda.sm90_tf32")):
        kernel = kernel_for(name, x, weight)
        problem = describe(x, weight)
        accumulation = kernel.accumulation(problem)
        worst = []
        for config in kernel.configs(problem):
            y = x.new_full((len(x), len(weight)), math.nan)
            kernel.prepare(problem, config)(x, weight, None, 2.0, y)
            fraction = numerics.error_over_bound(y, x, weight, None, 2.0, accumulation)
            worst.append(float(fraction.amax()))
        return worst


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("of_x", "of_weight", "k"),
    [
        (mantissas, mantissas, 4),
        (mantissas, mantissas, 68),
        (wide, wide, 8),
        (wide, normal, 260),
        (positive, positive, 8192),
        (positive, positive, 65536),
    ],
)
def test_the_bound_holds(name: str, of_x: Operand, of_weight: Operand, k: int):
    generator = torch.Generator("cuda").manual_seed(k)
    x, weight = of_x(some_rows(name, 150), k, generator), of_weight(200, k, generator)
    assert max(fractions_of_bound(name, x, weight)) <= 1


@pytest.mark.parametrize("name", NAMES[:3])
def test_numbers_at_both_ends_of_the_range(name: str):
    generator = torch.Generator("cuda").manual_seed(5)
    large = normal(200, 64, generator) * 2.0**100
    rows = some_rows(name, 150)
    assert max(fractions_of_bound(name, subnormal(rows, 64, generator), large)) <= 1
    small = normal(200, 64, generator) * 2.0**-30
    assert max(fractions_of_bound(name, huge(rows, 64, generator), small)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_nan_are_those_of_the_formula(name: str):
    """One infinity, a row of them, opposite ones that meet, zero times infinity, one NaN."""
    generator = torch.Generator("cuda").manual_seed(6)
    x = normal(some_rows(name, 300), 200, generator)
    weight = normal(260, 200, generator).abs() + 0.01
    middle = len(x) // 2
    x[3, 77] = math.inf
    x[4, 199] = -math.inf
    x[middle] = math.inf
    x[middle + 1, 0], x[middle + 1, 150] = math.inf, -math.inf
    x[middle + 2, 9] = math.nan
    weight[9, 77] = 0.0
    weight[129, 5] = math.inf
    assert max(fractions_of_bound(name, x, weight)) <= 1


def test_simt_takes_any_strides():
    generator = torch.Generator("cuda").manual_seed(7)
    x, weight = normal(150, 90, generator), normal(140, 90, generator)

    def layouts(matrix: torch.Tensor) -> list[torch.Tensor]:
        rows, columns = matrix.shape
        padded = matrix.new_full((rows, columns + 3), math.nan)[:, 1:-2].copy_(matrix)
        spread = matrix.new_full((rows, 2 * columns), math.nan)[:, ::2].copy_(matrix)
        return [matrix, matrix.T.contiguous().T, padded, spread, matrix[:1].expand(rows, columns)]

    for each_x in layouts(x):
        for each_weight in layouts(weight):
            assert max(fractions_of_bound("cuda.simt", each_x, each_weight)) <= 1


@pytest.mark.parametrize("m", [1, 3, 8, 16, 31])
@pytest.mark.parametrize(("n", "k"), [(1, 4), (5, 1), (777, 260), (1000, 1001), (4096, 2048)])
def test_every_configuration_for_few_rows(m: int, n: int, k: int):
    """Ragged strips, K of less than a tile and of odd length, rows apart, NaN around them."""
    generator = torch.Generator("cuda").manual_seed(m)
    for around in (0, 4, 3):
        x, weight = (
            torch.full((rows + 2, k + around), math.nan, device="cuda")[1:-1, :k].copy_(
                normal(rows, k, generator)
            )
            for rows in (m, n)
        )
        assert max(fractions_of_bound("cuda.skinny_fp32", x, weight)) <= 1


@pytest.mark.parametrize(("n", "k"), [(1001, 4100), (4096, 4096), (777, 333)])
def test_the_bits_of_one_of_few_rows_do_not_depend_on_the_others(n: int, k: int):
    generator = torch.Generator("cuda").manual_seed(9)
    x, weight = normal(32, k, generator), normal(n, k, generator)
    rows: dict[str, torch.Tensor] = {}
    for m in (1, 2, 4, 7, 16, 32):
        kernel = kernel_for("cuda.skinny_fp32", x[:m], weight)
        problem = describe(x[:m], weight)
        for config in kernel.configs(problem):
            y = x.new_empty(m, n)
            kernel.prepare(problem, config)(x[:m], weight, None, 2.0, y)
            first = rows.setdefault(kernel.summation(problem, config) or "", y[:1])
            assert torch.equal(y[:1], first), (m, config)


def test_tf32_asks_for_permission():
    generator = torch.Generator("cuda").manual_seed(8)
    x, weight = normal(128, 128, generator), normal(128, 128, generator)
    with precision(Case(1, 1, 1, reduced=True)):
        kernel = kernel_for("cuda.sm90_tf32", x, weight)
    with precision(Case(1, 1, 1, reduced=False)):
        assert any("TF32" in reason for reason in kernel.why_not(describe(x, weight)))
