"""What else a user of PyTorch expects an operator and a layer to go along with."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrize, prune
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import fusedops
from fusedops import backends
from fusedops.plans import describe
from fusedops.recovery import recovery_steps
from fusedops.registry import reasons_against

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
OPS = torch.ops.fusedops


def operands(*leading: int, n: int = 6, k: int = 16, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(2)
    shapes = ((*leading, k), (n, k), (n,))
    return [torch.randn(each, generator=generator).to(device, dtype) for each in shapes]


@pytest.mark.supports("out=, contiguous or not, aliasing an operand; seen by version counters")
@pytest.mark.parametrize("device", DEVICES)
def test_a_given_result(device):
    x, weight, bias = operands(2, 5, n=16, device=device)
    expected = fusedops.gemm_sig_res(x, weight, bias, 2.0)
    strided = torch.empty(2, 16, 5, device=device).transpose(1, 2)
    unaligned = torch.empty(161, device=device)[1:].view(2, 5, 16)
    for out in (torch.empty_like(expected), strided, unaligned):
        version = out._version
        assert fusedops.gemm_sig_res(x, weight, bias, 2.0, out=out) is out
        torch.testing.assert_close(out, expected)
        assert out._version > version
    own = x.clone()
    fusedops.gemm_sig_res(own, weight, bias, 2.0, out=own)
    torch.testing.assert_close(own, expected)
    OPS.gemm_sig_res(x, weight, bias, 2.0, out=out.zero_())
    torch.testing.assert_close(out, expected)


@pytest.mark.supports("out= that does not fit, or where a gradient is needed", answer="an error")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_given_result_that_cannot_be(compiled):
    x, weight, bias = operands(5)
    call = fusedops.gemm_sig_res
    if compiled:
        torch._dynamo.reset()
        call = torch.compile(call, backend="aot_eager")
    for out, error, text in (
        (torch.empty(5, 7), ValueError, r"out must be \(5, 6\)"),
        (torch.empty(5, 6, dtype=torch.float64), TypeError, "out must have x's dtype"),
        (torch.empty(5, 6, device="meta"), ValueError, "out must be on x's device"),
    ):
        with pytest.raises(error, match=text):
            call(x, weight, bias, out=out)
    for given in ((x.clone().requires_grad_(), weight, bias), (x, weight, bias)):
        out = torch.empty(5, 6, requires_grad=not given[0].requires_grad)
        with pytest.raises(RuntimeError, match="cannot be differentiated"):
            call(*given, out=out)
    saved = torch.randn(5, 6, requires_grad=True)
    factor = torch.randn(5, 6)
    product = saved * factor
    call(x, weight, bias, out=factor)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.supports("inference_mode, with tensors from inside and outside")
@pytest.mark.parametrize("device", DEVICES)
def test_inference_mode(device):
    x, weight, bias = operands(5, device=device)
    weight.requires_grad_()
    expected = fusedops.gemm_sig_res(x, weight, bias, 2.0).detach()
    with torch.inference_mode():
        y = fusedops.gemm_sig_res(x, weight, bias, 2.0)
        assert y.is_inference() and not y.requires_grad
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(fusedops.gemm_sig_res(x * 1, weight, bias, 2.0), expected)
        torch.testing.assert_close(OPS.gemm_sig_res(x, weight, bias, x.new_tensor(2.0)), expected)
        fusedops.gemm_sig_res(x, weight, bias, 2.0, out=y)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        fusedops.gemm_sig_res(y[:, :1].expand(5, 16), weight, bias, 2.0)


@pytest.mark.supports("meta and fake tensors: shape, dtype, strides and device of the real result")
@pytest.mark.parametrize("scale", [2.0, "a tensor"])
def test_meta_and_fake_tensors(scale):
    scale = torch.tensor(2.0, requires_grad=True) if scale == "a tensor" else scale
    given = [*operands(2, 3), scale]
    given[0] = given[0].transpose(0, 1)

    def run(given):
        own = [each.detach().requires_grad_() if torch.is_tensor(each) else each for each in given]
        y = fusedops.gemm_sig_res(*own)
        y.sum().backward()
        return y, *(each.grad for each in own if torch.is_tensor(each))

    real = run(given)
    meta = run([each.to("meta") if torch.is_tensor(each) else each for each in given])
    with FakeTensorMode() as mode:
        fake = run([mode.from_tensor(each) if torch.is_tensor(each) else each for each in given])
    for one, two, three in zip(real, meta, fake, strict=True):
        assert one.shape == two.shape == three.shape
        assert one.dtype == two.dtype == three.dtype
        assert one.stride() == two.stride() == three.stride()
        assert two.device.type == "meta" and three.device == one.device


@pytest.mark.supports("deterministic mode: the same bits, nothing left unwritten, no error")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [2.0, 20.0])
@pytest.mark.filterwarnings("ignore:Deterministic behavior was enabled")
def test_deterministic_mode(device, scale):
    def run():
        own = [each.requires_grad_() for each in operands(300, n=70, device=device)]
        y = fusedops.gemm_sig_res(*own, scale)
        y.sum().backward()
        return [y.detach(), *(each.grad for each in own)]

    free = run()
    # Whatever is allocated is filled with NaN. cuBLAS, not ours, warns that it may not obey.
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    try:
        runs = [run(), run()]
    finally:
        torch.use_deterministic_algorithms(False)
    for got, again, without in zip(*runs, free, strict=True):
        assert torch.equal(got, again) and torch.equal(got, without)


@pytest.mark.supports("torch.utils.flop_counter, forward and backward")
def test_flop_counter():
    x, weight, bias = (each.requires_grad_() for each in operands(4, 5))
    products = 2 * 20 * 6 * 16
    for forward in (
        lambda: fusedops.gemm_sig_res(x, weight, bias, 2.0),
        lambda: fusedops.gemm_sig_res(x, weight, bias, 20.0, backend="reference"),
        lambda: fusedops.gemm_sig_res(x, weight, bias, torch.tensor(2.0)),
    ):
        with FlopCounterMode(display=False) as counter:
            y = forward()
        assert counter.get_total_flops() == products
        with FlopCounterMode(display=False) as counter:
            y.sum().backward()
        assert counter.get_total_flops() == 2 * products
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        fusedops.gemm_sig_res(x, weight, bias, out=torch.empty(4, 5, 6))
    assert counter.get_total_flops() == products


def test_the_flop_counter_may_be_looked_for_before_it_is_imported():
    code = (
        "import importlib.util as util, torch, fusedops; "
        "name = 'torch.utils.flop_counter'; util.find_spec(name); "
        "registry = __import__(name, fromlist=['flop_registry']).flop_registry; "
        "assert torch.ops.fusedops.gemm_sig_res in registry"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Wrapped(torch.Tensor):
    """A subclass that holds another tensor and logs the operators that it meets."""

    seen: ClassVar[list[str]] = []

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=inner.device,
            strides=inner.stride(), requires_grad=inner.requires_grad,
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner.detach()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(str(function))
        args, kwargs = tree_map_only(cls, lambda each: each.inner, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, cls, function(*args, **kwargs))


class Overriding(torch.Tensor):
    """A subclass that sees functions, not operators."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(getattr(function, "__name__", str(function)))
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.supports(
    "tensor subclasses, by `__torch_dispatch__` or `__torch_function__`; gradients"
)
@pytest.mark.parametrize("kind", [Wrapped, Overriding])
@pytest.mark.parametrize("scale", [2.0, 20.0])
def test_tensor_subclasses(kind, scale):
    x, weight, bias = operands(4)
    expected = fusedops.gemm_sig_res(x, weight, bias, scale)
    kind.seen.clear()
    if kind is Wrapped:
        own = [kind(each).requires_grad_() for each in (x, weight, bias)]
    else:
        own = [each.clone().as_subclass(kind).requires_grad_() for each in (x, weight, bias)]
    y = fusedops.gemm_sig_res(*own, scale)
    assert type(y) is kind and any("gemm_sig_res" in name for name in kind.seen)
    torch.testing.assert_close(
        y.inner if kind is Wrapped else y.as_subclass(torch.Tensor), expected
    )
    y.sum().backward()
    plain = [each.clone().requires_grad_() for each in (x, weight, bias)]
    fusedops.gemm_sig_res(*plain, scale).sum().backward()
    for got, want in zip(own, plain, strict=True):
        gradient = got.grad.inner if kind is Wrapped else got.grad.as_subclass(torch.Tensor)
        torch.testing.assert_close(gradient, want.grad)


@pytest.mark.supports("deepcopy and pickle of the layer, whatever its scale")
@pytest.mark.parametrize("scale", [1.5, torch.tensor(1.5), nn.Parameter(torch.tensor([1.5]))])
def test_copies_of_the_layer(scale):
    layer = fusedops.GemmSigRes(16, 6, scale, backend="reference")
    x = operands(4)[0]
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert torch.equal(twin(x), layer(x)) and twin.backend == "reference"
        assert list(twin.state_dict()) == list(layer.state_dict())
        assert repr(twin) == repr(layer)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.zero_()
    assert copied.weight.abs().sum() > 0


@pytest.mark.supports("state_dict to and from nn.Linear, where scale is a number")
def test_state_dicts():
    linear = nn.Linear(16, 6)
    x = operands(4)[0]
    layer = fusedops.GemmSigRes(16, 6, 2.0)
    assert not any(layer.load_state_dict(linear.state_dict()))
    z = linear(x)
    torch.testing.assert_close(layer(x), z + 2.0 * torch.sigmoid(z))
    other = nn.Linear(16, 6)
    assert not any(other.load_state_dict(layer.state_dict()))
    torch.testing.assert_close(other(x), linear(x))
    assigned = fusedops.GemmSigRes(16, 6, 2.0, device="meta")
    assigned.load_state_dict(linear.state_dict(), assign=True)
    torch.testing.assert_close(assigned(x), layer(x))


@pytest.mark.supports("a learned or scheduled scale is in the state_dict and moves with the layer")
def test_a_scale_in_the_state():
    learned = fusedops.GemmSigRes(16, 6, nn.Parameter(torch.tensor(2.0)))
    scheduled = fusedops.GemmSigRes.from_linear(nn.Linear(16, 6), torch.tensor(2.0))
    assert [name for name, _ in learned.named_parameters()] == ["weight", "bias", "scale"]
    assert [name for name, _ in scheduled.named_buffers()] == ["scale"]
    for layer in (learned, scheduled):
        assert sorted(layer.state_dict()) == ["bias", "scale", "weight"]
        twin = copy.deepcopy(layer).double()
        assert twin.scale.dtype == torch.float64
        assert twin(operands(4, dtype=torch.float64)[0]).dtype == torch.float64
        assert layer.to("meta").scale.is_meta
        repr(layer)
    with pytest.raises(ValueError, match=r"scale must have one element: its shape is \(2,\)"):
        fusedops.GemmSigRes(16, 6, torch.ones(2))


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


@pytest.mark.supports("torch.nn.utils.parametrize, weight_norm, spectral_norm and pruning")
def test_parametrized_weights():
    x = operands(4)[0]
    layer = fusedops.GemmSigRes(16, 6, 2.0)
    halved = fusedops.gemm_sig_res(x, layer.weight / 2, layer.bias, 2.0).detach()
    parametrize.register_parametrization(layer, "weight", Halved())
    torch.testing.assert_close(layer(x), halved)
    layer(x).sum().backward()
    assert layer.parametrizations.weight.original.grad.abs().sum() > 0
    with parametrize.cached():
        torch.testing.assert_close(layer(x), halved)
    for change in (
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ):
        fresh = change(fusedops.GemmSigRes(16, 6, 2.0).eval())
        expected = fusedops.gemm_sig_res(x, fresh.weight, fresh.bias, 2.0)
        torch.testing.assert_close(fresh(x), expected)


def able(x, weight, bias, **wishes) -> list[str]:
    """The backends that can run the call here."""
    problem = replace(describe(x, weight, bias), **wishes)
    missing = backends.missing()
    kernels = [each for each in backends.kernels() if not reasons_against(each, problem, missing)]
    return sorted({each.backend for each in kernels})


@pytest.mark.supports("opcheck of every operator, on every backend that can run")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(device, dtype):
    x, weight, bias = operands(3, 5, n=16, dtype=dtype, device=device)
    scale = torch.tensor(2.0, device=device)
    check = torch.library.opcheck
    check(OPS.gemm_sig_res.default, (x, weight, bias, 2.0))
    check(OPS.gemm_sig_res.tensor, (x, weight, None, scale))
    check(OPS.gemm_sig_res.out, (x, weight, bias, 2.0), {"out": x.new_empty(3, 5, 16)})
    leaves = [each.clone().requires_grad_() for each in (x, weight, bias, scale)]
    check(OPS.gemm_sig_res.default, (*leaves[:3], 2.0))
    check(OPS.gemm_sig_res.default, (*leaves[:3], 20.0))
    check(OPS.gemm_sig_res.tensor, tuple(leaves))
    gradient = torch.randn_like(x[..., :1]).expand(3, 5, 16)
    saved = fusedops.gemm_sig_res(x, weight, bias, 2.0)
    for backend in able(x, weight, bias):
        check(OPS.gemm_sig_res_on.default, (x, weight, bias, 2.0, backend))
    for backend in able(x, weight, bias, scale_dtype=torch.float32):
        check(OPS.gemm_sig_res_on.tensor, (x, weight, bias, scale, backend))
    for backend in able(x, weight, bias, writes_z=True):
        for writes_z in (True, False):
            arguments = (x, weight, bias, 2.0, None, writes_z, backend)
            check(OPS.gemm_sig_res_forward.default, arguments)
    for backend in able(x, weight, bias, writes_z=True, scale_dtype=torch.float32):
        arguments = (x, weight, bias, 0.0, scale, True, backend)
        check(OPS.gemm_sig_res_forward.default, arguments)
    steps = recovery_steps(2.0, dtype)
    for wanted in ((True, dtype, False), (False, torch.float32, False), (True, None, False)):
        check(OPS.gemm_sig_res_backward.default, (gradient, saved, 2.0, None, steps, *wanted, None))
    for wanted in ((True, dtype, True), (False, None, True)):
        check(OPS.gemm_sig_res_backward.default, (gradient, saved, 0.0, scale, 0, *wanted, None))
