"""The error bound, the oracle and their comparison, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from fusedops import numerics, reference
from fusedops.registry import Accumulation
from fusedops.verify.exhaustive import ulps

FP32 = Accumulation(2.0**-24)
HALVES = (torch.float16, torch.bfloat16)


def one(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor([[value]], dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, 2.0**-11),
        (torch.bfloat16, 2.0**-8),
        (torch.float32, 2.0**-24),
        (torch.float64, 2.0**-53),
    ],
)
def test_unit_roundoff(dtype, expected):
    assert numerics.unit_roundoff(dtype) == expected


def test_the_bound_of_a_product_that_is_zero():
    """z = 0, s = 2: y = 1, and only the output's rounding and the epilogue's are left."""
    bound = numerics.error_bound(one(0.0), one(5.0), None, 2.0, FP32)
    assert bound.item() == 2.0**-24 * 1 + 8 * 2.0**-24 * 2 * 0.5 + 2.0**-149


def test_the_bound_of_a_sum_by_hand():
    """K = 2, x = (1, -2), w = (3, 4), b = -6: |x||w| + |b| = 17, z = -11."""
    x, w = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]])
    b = torch.tensor([-6.0])
    sigmoid = 1 / (1 + math.exp(11))
    y = -11 - 3 * sigmoid
    accumulated = (1 + 3 / 4) * 4 * math.sqrt(4) * 2.0**-24 * 17
    expected = 2.0**-24 * abs(y) + accumulated + 8 * 2.0**-24 * 3 * sigmoid + 2.0**-149
    bound = numerics.error_bound(x, w, b, -3.0, FP32)
    assert bound.item() == pytest.approx(expected, rel=1e-12)


def test_a_chain_of_truncating_products_is_linear_in_k():
    x, w = torch.ones(1, 8192), torch.ones(1, 8192)
    plain = numerics.error_bound(x, w, None, 0.0, FP32)
    chained = numerics.error_bound(x, w, None, 0.0, Accumulation(2.0**-24, 1 / 8))
    assert (chained - plain).item() == pytest.approx(8192 / 8 * 2.0**-24 * 8192)


def test_the_output_rounding_follows_the_output_dtype():
    x = one(1.0)
    narrow = numerics.error_bound(x, x, None, 0.0, FP32, dtype=torch.bfloat16)
    wide = numerics.error_bound(x, x, None, 0.0, FP32)
    assert (narrow - wide).item() == pytest.approx(2.0**-8 - 2.0**-24)


def test_float64_counts_the_roundings_of_the_oracle_too():
    zero = one(0.0, torch.float64)
    bound = numerics.error_bound(zero, zero, None, 2.0, Accumulation(2.0**-53))
    assert bound.item() == 2.0**-53 + 16 * 2.0**-53


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_the_oracle_is_the_reference_in_float64(dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, generator=generator).to(dtype)
    w = torch.randn(3, 7, generator=generator).to(dtype)
    b = torch.randn(3, generator=generator)
    oracle = numerics.oracle(x, w, b, -3.0)
    assert oracle.dtype == torch.float64
    torch.testing.assert_close(
        oracle, reference.gemm_sig_res(x.double(), w.double(), b.double(), -3.0), rtol=0, atol=0
    )
    expected, bound = numerics.expected_and_bound(x, w, b, -3.0, FP32)
    assert torch.equal(expected, oracle)
    assert torch.equal(bound, numerics.error_bound(x, w, b, -3.0, FP32))


def test_the_oracle_of_a_value_worked_out_by_hand():
    y = numerics.oracle(one(2.0), one(0.5), torch.tensor([0.0]), 2.0)
    assert y.item() == pytest.approx(1 + 2 / (1 + math.exp(-1)), rel=1e-15)


def test_the_fraction_is_the_error_over_the_bound():
    x = one(1.0)
    bound = numerics.error_bound(x, x, None, 0.0, FP32)
    y = one(1.0 + 2.0**-20)
    fraction = numerics.error_over_bound(y, x, x, None, 0.0, FP32)
    assert fraction.item() == pytest.approx(2.0**-20 / bound.item())
    assert fraction.item() > 1


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_special_values_must_be_the_same_one(special):
    x, w = one(special), one(1.0)
    for got in (math.nan, math.inf, -math.inf, 0.0):
        same = got == special or (math.isnan(got) and math.isnan(special))
        fraction = numerics.error_over_bound(one(got), x, w, None, 2.0, FP32)
        assert fraction.item() == (0.0 if same else math.inf)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_special_value_for_a_finite_one_is_wrong(wrong):
    assert numerics.error_over_bound(one(wrong), one(1.0), one(1.0), None, 2.0, FP32) == math.inf


def test_both_sides_of_the_overflow_threshold_of_float16():
    """65520 is half way between the largest float16 and the next: it rounds to infinity."""

    def fraction(z: float, y: float) -> float:
        x, w = one(z, torch.float16), one(1.0, torch.float16)
        bias = torch.tensor([z - float(x)])
        return numerics.error_over_bound(
            one(y, torch.float16), torch.nan_to_num(x), w, bias, 0.0, FP32
        ).item()

    assert fraction(65504.0, 65504.0) == 0
    assert fraction(65504.0, 65472.0) <= 1 < fraction(65504.0, 65440.0)
    x, w = one(32768.0, torch.float16), one(2.0, torch.float16)
    for b, right, wrong in (
        (-32.0, (65504.0,), (-math.inf, math.nan)),
        (-16.0, (65504.0, math.inf), (-math.inf,)),
        (64.0, (math.inf,), (-math.inf, 65472.0)),
        (65536.0, (math.inf,), (65504.0,)),
    ):
        bias = torch.tensor([b])
        for value in right:
            got = numerics.error_over_bound(one(value, torch.float16), x, w, bias, 0.0, FP32)
            assert got.item() <= 1, (b, value)
        for value in wrong:
            got = numerics.error_over_bound(one(value, torch.float16), x, w, bias, 0.0, FP32)
            assert got.item() > 1, (b, value)


def test_an_infinity_well_below_the_threshold_is_wrong():
    x, w = one(30000.0, torch.float16), one(2.0, torch.float16)
    got = one(math.inf, torch.float16)
    assert numerics.error_over_bound(got, x, w, None, 0.0, FP32).item() == math.inf


@pytest.mark.parametrize("scale", [0.1, 12345.678, -3.3e5 / 7])
def test_approximate_exponential_and_reciprocal_fit_in_the_epilogue_term(scale):
    """The errors PTX allows ex2.approx (2^-22) and rcp.approx (one ULP), at their worst signs.

    With 4 roundings in place of 8 this fails: docs/numerics.md.
    """
    generator = torch.Generator().manual_seed(0)
    magnitude = 10.0 ** torch.empty(200_000).uniform_(-4, 2, generator=generator)
    z = torch.cat([magnitude, -magnitude])[:, None]
    minus_log2_e = torch.tensor(-math.log2(math.e))
    for exponential_sign in (-1, 1):
        e = torch.exp2((z * minus_log2_e).double()) * (1 + exponential_sign * 2.0**-22)
        quotient = 1 / (1 + e.float()).double()
        for quotient_sign in (-1, 1):
            sigmoid = (quotient * (1 + quotient_sign * 2.0**-24)).float()
            y = z + torch.tensor(scale) * sigmoid
            fraction = numerics.error_over_bound(y, z, torch.ones(1, 1), None, scale, FP32)
            assert fraction.max().item() <= 1


@pytest.mark.parametrize("dtype", HALVES)
def test_ulps(dtype):
    eps = torch.finfo(dtype).eps
    tiny = torch.finfo(dtype).smallest_normal * eps
    expected = torch.tensor([1.0, 1.5, 2.0, -4.0, tiny, 0.0], dtype=torch.float64)
    unit = torch.tensor([eps, eps, 2 * eps, 4 * eps, tiny, tiny], dtype=torch.float64)
    y = (expected + unit).to(dtype)
    assert ulps(y, expected).tolist() == [1.0] * 6
    assert ulps(expected.to(dtype), expected).tolist() == [0.0] * 6


def float16_chains(products: torch.Tensor, chain: int) -> torch.Tensor:
    """Sums of the last dimension as a tensor core adds in float16: rounded once for 16 products.

    Chains of ``chain`` products are added in float32.
    """
    steps = products.double().unflatten(-1, (-1, chain // 16, 16)).sum(-1)
    total = torch.zeros(products.shape[:-1])
    for each in steps.unbind(-2):
        partial = torch.zeros(products.shape[:-1], dtype=torch.float16)
        for step in each.unbind(-1):
            partial = (partial.double() + step).half()
        total = total + partial.float()
    return total


@pytest.mark.parametrize("magnitude", [1.0, 1e-3])
@pytest.mark.parametrize("sign", [-1.0, 0.0])
@pytest.mark.parametrize("k", [16, 48, 64, 1024, 131072])
def test_chains_of_64_in_float16_meet_what_they_declare(k, sign, magnitude):
    generator = torch.Generator().manual_seed(k)
    x, weight = torch.rand(2, 4, k, generator=generator).mul(1 - sign).add(sign).half()
    x = (x.double() * magnitude).half()
    products = F.pad(x.double() * weight.double(), (0, -k % 64))
    exact = products.sum(-1)
    magnitudes = products.abs().sum(-1)
    bound = 4 * math.sqrt(k + 2) * 2**-13 * magnitudes + math.ceil(k / 16) * 2**-25
    assert ((float16_chains(products, 64).double() - exact).abs() <= bound).all()
    if k == 131072 and sign == 0 and magnitude == 1:
        # The same declaration shows one chain over all of K for what it is.
        assert ((float16_chains(products, k).double() - exact).abs() > bound).all()


def test_a_spacing_widens_the_bound_by_what_underflow_loses():
    x, weight = torch.zeros(1, 33).half(), torch.zeros(1, 33).half()
    plain = numerics.error_bound(x, weight, None, 2.0, Accumulation(2**-13))
    spaced = numerics.error_bound(x, weight, None, 2.0, Accumulation(2**-13, spacing=2**-24))
    assert (spaced - plain).item() == pytest.approx((1 + 2 / 4) * 3 * 2**-25)
