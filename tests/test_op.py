"""The operator as PyTorch meets it: eager, fake, compiled; shapes, strides, errors."""

from __future__ import annotations

import math

import pytest
import torch

import fusedops
from fusedops import backends
from fusedops.numerics import error_over_bound
from fusedops.plans import describe
from fusedops.registry import Accumulation, reasons_against

OP = torch.ops.fusedops.gemm_sig_res.default
FORCED = torch.ops.fusedops.gemm_sig_res_on.default
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def operands(*leading: int, n: int = 20, k: int = 33, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(*leading, k, generator=generator).to(device, dtype)
    weight = (torch.randn(n, k, generator=generator) / math.sqrt(max(k, 1))).to(device, dtype)
    bias = torch.randn(n, generator=generator).to(device, dtype)
    return x, weight, bias


def able(*tensors) -> list[str]:
    problem = describe(*tensors)
    missing = backends.missing()
    return [k.name for k in backends.kernels() if not reasons_against(k, problem, missing)]


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (1, 4, 1)])
@pytest.mark.parametrize("k", [33, 64])  # 64: rows that TMA and 16-byte copies take
def test_every_kernel_by_name(device, dtype, leading, k):
    x, weight, bias = operands(*leading, k=k, dtype=dtype, device=device)
    declared = {each.name: each.accumulation for each in backends.kernels()}
    problem = describe(x, weight, bias)
    for name in able(x, weight, bias):
        accumulation = declared[name](problem)
        y = fusedops.gemm_sig_res(x, weight, bias, 1.5, backend=name)
        assert y.shape == (*leading, 20) and y.dtype == dtype and y.is_contiguous()
        assert error_over_bound(y, x, weight, bias, 1.5, accumulation).max() <= 1, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_for_every_kernel(device, with_bias, dtype):
    x, weight, bias = operands(3, 5, k=64, dtype=dtype, device=device)
    bias = bias if with_bias else None
    torch.library.opcheck(OP, (x, weight, bias, 2.0))
    torch.library.opcheck(OP, (x.transpose(0, 1), weight), {"scale": -1.0})
    permuted = x.reshape(15, 64).t().contiguous().t()
    for operand in (x, permuted):
        for name in able(operand, weight, bias):
            torch.library.opcheck(FORCED, (operand, weight, bias, 2.0, name))


@pytest.mark.parametrize(
    ("leading", "n", "k"),
    [((0,), 4, 3), ((2, 0), 4, 3), ((3,), 0, 4), ((3,), 4, 0), ((0,), 0, 0), ((2, 3), 4, 0)],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_empty_operands(leading, n, k, with_bias):
    x, weight, bias = operands(*leading, n=n, k=k)
    z = bias.expand(*leading, n) if with_bias else torch.zeros(*leading, n)
    y = fusedops.gemm_sig_res(x, weight, bias if with_bias else None, 3.0)
    torch.testing.assert_close(y, z + 3.0 * torch.sigmoid(z))


def test_special_values_are_those_of_the_formula():
    x = torch.tensor([[math.inf], [-math.inf], [math.nan], [1.0]])
    weight = torch.tensor([[1.0]])
    for name in able(x, weight):
        y = fusedops.gemm_sig_res(x, weight, None, 2.0, backend=name)[:, 0]
        assert y[0] == math.inf and y[1] == -math.inf and y[2].isnan() and y[3].isfinite()


def test_inputs_are_left_alone_and_the_result_is_new():
    x, weight, bias = operands(4, dtype=torch.bfloat16)
    before = [each.clone() for each in (x, weight, bias)]
    y = fusedops.gemm_sig_res(x, weight, bias)
    assert all(torch.equal(a, b) for a, b in zip((x, weight, bias), before, strict=True))
    assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_strided_operands():
    base, weight, bias = operands(6, 8)
    wide = torch.randn(20, 66)
    cases = {
        "dimensions that do not collapse": (base.transpose(0, 1), weight, bias),
        "transposed": (torch.randn(33, 6).t(), weight, bias),
        "sliced": (torch.randn(6, 70)[:, 2:35], wide[:, ::2], torch.randn(40)[::2]),
        "expanded": (torch.randn(1, 33).expand(6, 33), weight, torch.randn(1).expand(20)),
    }
    for name, (x, w, b) in cases.items():
        expected = fusedops.gemm_sig_res(x.contiguous(), w.contiguous(), b.contiguous(), 2.0)
        for kernel in able(x, w, b):
            y = fusedops.gemm_sig_res(x, w, b, 2.0, backend=kernel)
            torch.testing.assert_close(y, expected, msg=f"{name}, {kernel}")


def test_a_lazily_negated_view():
    x = torch.view_as_complex(torch.randn(4, 33, 2)).conj().imag
    assert x.is_neg()
    weight = operands(1)[1]
    expected = fusedops.gemm_sig_res(x.resolve_neg(), weight)
    torch.testing.assert_close(fusedops.gemm_sig_res(x, weight), expected)


BAD = {
    "dtype of x": (lambda x, w, b: (x.long(), w, b), TypeError, "float16, bfloat16.*int64"),
    "dtypes differ": (lambda x, w, b: (x, w.half(), b), TypeError, "x is float32.*float16"),
    "dtype of bias": (lambda x, w, b: (x, w, b.double()), TypeError, "bias is float64"),
    "inner sizes": (lambda x, w, b: (x, w[:, 1:], b), ValueError, r"\(5, 33\).*\(20, 32\)"),
    "bias size": (lambda x, w, b: (x, w, b[1:]), ValueError, r"\(20, 33\).*\(19,\)"),
    "bias dims": (lambda x, w, b: (x, w, b[None]), ValueError, r"\(1, 20\)"),
    "weight dims": (lambda x, w, b: (x, w[0], b), ValueError, r"\(33,\)"),
    "x dims": (lambda x, w, b: (x[0, 0], w, b), ValueError, r"x is \(\)"),
    "devices": (lambda x, w, b: (x, w.to("meta"), b), ValueError, "x is on cpu, weight on meta"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_operands_raise_alike_in_every_mode(case):
    spoil, error, text = BAD[case]
    bad = spoil(*operands(5))
    with pytest.raises(error, match=text):
        fusedops.gemm_sig_res(*bad)
    with pytest.raises(error, match=text):
        OP(*bad)
    torch._dynamo.reset()
    with pytest.raises(error, match=text):
        torch.compile(fusedops.gemm_sig_res, backend="eager")(*bad)
    if case != "devices":
        with pytest.raises(error, match=text):
            OP(*(each.to("meta") for each in bad))


def test_wrong_types_name_them_all():
    x, weight, bias = operands(5)
    with pytest.raises(TypeError, match="x is Tensor, weight is list, bias is NoneType"):
        fusedops.gemm_sig_res(x, weight.tolist())
    with pytest.raises(TypeError, match="scale must be a number or a tensor, not str"):
        fusedops.gemm_sig_res(x, weight, bias, "2")
    with pytest.raises(ValueError, match=r"scale must be a number or a 0-d tensor: it is \(1,\)"):
        fusedops.gemm_sig_res(x, weight, bias, torch.ones(1))


def test_operands_that_are_not_dense():
    x, weight, _ = operands(5)
    with pytest.raises(TypeError, match=r"x is torch\.sparse_coo"):
        fusedops.gemm_sig_res(x.to_sparse(), weight)


def test_meta_and_fake_tensors_have_the_real_shape_and_strides():
    x, weight, bias = operands(2, 3)
    y = OP(x.to("meta"), weight.to("meta"), bias.to("meta"))
    assert y.is_meta and y.shape == (2, 3, 20) and y.is_contiguous()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_whole(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, w, b: fusedops.gemm_sig_res(x * 2, w, b, 0.5) + 1,
        fullgraph=True,
        dynamic=dynamic,
        backend="aot_eager",
    )
    for rows in (4, 9):
        x, weight, bias = operands(rows)
        expected = fusedops.gemm_sig_res(x * 2, weight, bias, 0.5) + 1
        torch.testing.assert_close(compiled(x, weight, bias), expected)


@pytest.mark.gpu
def test_more_than_two_to_the_31_elements():
    rows, k, n = 2**31 // 1024 + 300, 1024, 64
    x = torch.empty(rows, k, dtype=torch.bfloat16, device="cuda").normal_()
    weight = torch.randn(n, k, device="cuda").bfloat16() / 32
    for name in able(x, weight):
        y = fusedops.gemm_sig_res(x, weight, None, 2.0, backend=name)
        for part in (slice(0, 200), slice(rows - 300, rows)):
            over = error_over_bound(
                y[part], x[part], weight, None, 2.0, Accumulation(2.0**-24, 1 / 8)
            )
            assert over.max() <= 1, name
        del y
    del x
    torch.cuda.empty_cache()
    rows, n = 2**16 + 100, 2**15 + 64
    x = torch.randn(rows, 64, device="cuda").bfloat16()
    tall = torch.randn(n, 64, device="cuda").bfloat16() / 8
    for name in able(x, tall):
        y = fusedops.gemm_sig_res(x, tall, None, 2.0, backend=name)
        assert y.numel() > 2**31
        for part in (slice(0, 100), slice(rows - 300, rows)):
            over = error_over_bound(
                y[part], x[part], tall, None, 2.0, Accumulation(2.0**-24, 1 / 8)
            )
            assert over.max() <= 1, name
        del y


def test_whoever_watches_calls_sees_this_one():
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    expected = fusedops.gemm_sig_res(x, weight, None, 2.0)

    with torch.profiler.profile() as profile:
        fusedops.gemm_sig_res(x, weight, None, 2.0)
    assert "fusedops::gemm_sig_res" in {event.name for event in profile.events()}

    class Counts(torch.overrides.TorchFunctionMode):
        seen = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.seen += "gemm_sig_res" in str(function)
            return function(*args, **(kwargs or {}))

    with Counts() as counts:
        fusedops.gemm_sig_res(x, weight, None, 2.0)
    assert counts.seen == 1

    class Doubles(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return 2 * function(*args, **(kwargs or {}))

    with Doubles():
        doubled = fusedops.gemm_sig_res(x, weight, None, 2.0)
    assert torch.equal(doubled, 2 * expected)

    with pytest.warns(DeprecationWarning):
        traced = torch.jit.trace(lambda t: fusedops.gemm_sig_res(t, weight, None, 2.0), x)
    assert torch.equal(traced(2 * x), fusedops.gemm_sig_res(2 * x, weight, None, 2.0))
