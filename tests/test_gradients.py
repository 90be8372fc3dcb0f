"""Training: gradients of every operand, what is kept for them, and what is not computed."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import fusedops
from fusedops import backends
from fusedops.recovery import LEAST_SCALE, MOST_SCALE

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NAMES = ("x", "weight", "bias", "scale")
KEPT = "z kept"
RECOVERED = "z recovered from y"
POLICIES = {RECOVERED: 2.0, KEPT: 20.0}


def operands(*leading: int, n: int = 3, k: int = 4, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(11)
    shapes = ((*leading, k), (n, k), (n,))
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [each.detach().clone().requires_grad_() for each in tensors]


def plain(x, weight, bias=None, scale=1.0):
    z = torch.nn.functional.linear(x, weight, bias)
    return z + scale * torch.sigmoid(z)


def same_gradients(function, expected, *tensors, **tolerance):
    """Of a weighted sum of the results, with respect to every tensor."""
    results = []
    for each in (function, expected):
        own = leaves(*tensors)
        y = each(*own)
        weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype, device=y.device).view(y.shape)
        results.append(torch.autograd.grad((y * weights).sum(), own))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, **tolerance)


@pytest.mark.supports("first and second gradients, gradcheck and gradgradcheck in float64")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [0.0, -2.9, 2.0, 11.5, -5.0, 20.0])
@pytest.mark.parametrize("leading", [(3,), ()])
def test_gradcheck_and_gradgradcheck(device, scale, leading):
    tensors = leaves(*operands(*leading, device=device))

    def call(*given):
        return fusedops.gemm_sig_res(*given, scale)

    assert torch.autograd.gradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, [*tensors[:2], None])


@pytest.mark.supports("a scale that is a 0-d tensor, with its first and second gradient")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [0.0, 2.0, -4.0, 50.0])
def test_gradients_of_a_scale_in_memory(device, value):
    scale = torch.tensor(value, dtype=torch.float64, device=device)
    tensors = leaves(*operands(2, device=device), scale)
    assert torch.autograd.gradcheck(fusedops.gemm_sig_res, tensors)
    assert torch.autograd.gradgradcheck(fusedops.gemm_sig_res, tensors)


@pytest.mark.supports("a third gradient")
@pytest.mark.parametrize("scale", POLICIES.values(), ids=POLICIES)
def test_a_third_gradient(scale):
    x, weight, bias = operands(2)

    def third(function):
        (own,) = leaves(x)
        total = function(own, weight, bias, scale).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(total, own, create_graph=True)
            total = (gradient * gradient).sum()
        return gradient

    torch.testing.assert_close(third(fusedops.gemm_sig_res), third(plain))


def beside(switch: float) -> list[float]:
    return [math.nextafter(switch, -math.inf), switch, math.nextafter(switch, math.inf)]


SCALES = [0.0, 0.5, 1.0, 2.0, -1.0, -2.0, 5.0, 100.0, -10.0, -100.0]
SCALES += [*beside(LEAST_SCALE), *beside(MOST_SCALE)]


@pytest.mark.supports("both ways to z, at scales on each side of the switches, against float64")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_of_z_across_scales(device, dtype, scale):
    z = torch.linspace(-12, 12, 4096).to(device, dtype)[:, None].requires_grad_()
    weight = torch.ones(1, 1, dtype=dtype, device=device)
    (dz,) = torch.autograd.grad(fusedops.gemm_sig_res(z, weight, None, scale).sum(), z)
    sigmoid = torch.sigmoid(z.detach().double())
    expected = 1 + scale * sigmoid * (1 - sigmoid)
    roundings = (dz.double() - expected).abs() / torch.finfo(dtype).eps * 2
    most = 10 if dtype == torch.float32 else 2  # float32 has no wider type to be evaluated in
    assert (roundings / (1 + abs(scale) / 4)).max() <= most


class Watch(TorchDispatchMode):
    """Which operators ran, and with what arguments."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append((str(function), args))
        return function(*args, **(kwargs or {}))

    def products(self) -> int:
        return sum(name.startswith(("aten.mm", "aten.addmm", "aten.bmm")) for name, _ in self.calls)

    def asked_for(self) -> dict[str, bool]:
        (args,) = [args for name, args in self.calls if "gemm_sig_res_backward" in name]
        return {"dz": args[5], "bias": args[6] is not None, "scale": args[7]}


SUBSETS = [
    subset for size in range(1, 5) for subset in itertools.combinations(NAMES, size)
]  # fmt: skip


@pytest.mark.supports("requires_grad on any subset; no work for other gradients; frozen weights")
@pytest.mark.parametrize("subset", SUBSETS, ids="-".join)
def test_no_work_for_gradients_nobody_asked_for(subset):
    given = dict(zip(NAMES, [*operands(5), torch.tensor(2.0, dtype=torch.float64)], strict=True))
    for name in subset:
        given[name].requires_grad_()
    if "scale" not in subset:
        given["scale"] = 2.0
    y = fusedops.gemm_sig_res(**given)
    with Watch() as watch:
        y.sum().backward()
    assert watch.products() == ("x" in subset) + ("weight" in subset)
    assert watch.asked_for() == {
        "dz": "x" in subset or "weight" in subset,
        "bias": "bias" in subset,
        "scale": "scale" in subset,
    }
    wide = {name: torch.as_tensor(each).detach().clone() for name, each in given.items()}
    for name in subset:
        wide[name].requires_grad_()
    plain(**wide).sum().backward()
    for name in subset:
        torch.testing.assert_close(given[name].grad, wide[name].grad)


@pytest.mark.supports(
    "torch.autograd.grad and backward(inputs=) take no product that is not needed"
)
@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
@pytest.mark.parametrize("is_leaf", [True, False])
def test_only_the_gradients_a_backward_pass_uses(wanted, is_leaf):
    given = dict(zip(NAMES, leaves(*operands(5)), strict=False))
    if not is_leaf:
        given = {name: each * 1 for name, each in given.items()}
    y = fusedops.gemm_sig_res(**given, scale=2.0)
    with Watch() as watch:
        (gradient,) = torch.autograd.grad(y.sum(), given[wanted], retain_graph=True)
    assert gradient.shape == given[wanted].shape
    assert watch.products() == (wanted != "bias")
    assert watch.asked_for()["dz"] == (wanted != "bias")
    if is_leaf:
        y.sum().backward(inputs=[given[wanted]])
        assert [name for name, each in given.items() if each.grad is not None] == [wanted]
        torch.testing.assert_close(given[wanted].grad, gradient)


def kept_by(call) -> tuple[torch.Tensor, list[torch.Tensor]]:
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return call(), kept


@pytest.mark.supports("one tensor as large as the result is kept: y, or z where that is safer")
@pytest.mark.parametrize("policy", POLICIES)
def test_one_large_tensor_is_kept(policy):
    x, weight, bias = leaves(*operands(7, n=5))

    def call():
        return fusedops.gemm_sig_res(x, weight, bias, POLICIES[policy])

    y, kept = kept_by(call)
    large = [each for each in kept if each.numel() == y.numel()]
    assert len(large) == 1 and len(kept) == 3
    assert (large[0].data_ptr() == y.data_ptr()) == (policy == RECOVERED)
    x.requires_grad_(False)
    kept = kept_by(call)[1]
    assert not any(each.data_ptr() == weight.data_ptr() for each in kept), "x needs no gradient"
    x.requires_grad_()
    weight.requires_grad_(False)
    kept = kept_by(call)[1]
    assert not any(each.data_ptr() == x.data_ptr() for each in kept), "weight needs no gradient"


@pytest.mark.gpu
@pytest.mark.supports("one tensor as large as the result is alive after a forward pass")
def test_memory_after_a_forward_pass():
    tensors = leaves(*operands(1024, n=2048, k=64, dtype=torch.bfloat16, device="cuda"))
    fusedops.gemm_sig_res(*tensors, 2.0)
    before = torch.cuda.memory_allocated()
    y = fusedops.gemm_sig_res(*tensors, 2.0)
    assert torch.cuda.memory_allocated() - before == y.nbytes


@pytest.mark.supports("changing y in place before the backward pass: an error where y was kept")
def test_a_result_changed_in_place():
    x, weight, bias = operands(4)
    own = leaves(x, weight, bias)
    y = fusedops.gemm_sig_res(*own, POLICIES[RECOVERED])
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()

    def doubled(function):
        return lambda *given: function(*given, POLICIES[KEPT]).mul_(2)

    same_gradients(doubled(fusedops.gemm_sig_res), doubled(plain), x, weight, bias)


@pytest.mark.supports("changing an operand in place before the backward pass: an error")
@pytest.mark.parametrize("index", [0, 1])
def test_an_operand_changed_in_place(index):
    tensors = [each * 1 for each in leaves(*operands(4))]
    y = fusedops.gemm_sig_res(*tensors, 2.0)
    tensors[index].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.supports("infinities, NaN and large values have the formula's gradient")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [-2.5, 2.0, 12.0, 20.0])
def test_special_values(device, dtype, scale):
    values = [math.inf, -math.inf, math.nan, 3e4, -3e4, 200.0, -200.0, 0.0]
    z = torch.tensor(values, dtype=dtype, device=device)[:, None].requires_grad_()
    weight = torch.ones(1, 1, dtype=dtype, device=device)
    (got,) = torch.autograd.grad(fusedops.gemm_sig_res(z, weight, None, scale).sum(), z)
    expected = torch.tensor([1, 1, math.nan, 1, 1, 1, 1, 1 + scale / 4], dtype=dtype)
    torch.testing.assert_close(got[:, 0].cpu(), expected, equal_nan=True)


@pytest.mark.supports("any leading dimensions, any strides, expanded gradients, empty sizes")
def test_layouts():
    x, weight, bias = operands(4, 6)
    call, expected = partial(fusedops.gemm_sig_res, scale=2.0), partial(plain, scale=2.0)

    def turned(function):
        return lambda x, w, b: function(x.transpose(0, 1)[::2], w.flip(0), b)

    same_gradients(call, expected, x, weight, bias)
    same_gradients(call, expected, x[0, 0], weight, bias)
    same_gradients(turned(call), turned(expected), x, weight, bias)
    for m, n, k in ((0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)):
        same_gradients(call, expected, *operands(m, n=n, k=k))


@pytest.mark.supports("bfloat16 and float16 with a float32 bias, whose gradient is float32")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wide_bias(device, dtype):
    x, weight, bias = leaves(*operands(64, n=8, k=16, dtype=dtype, device=device))
    wide = leaves(bias.float())[0]
    fusedops.gemm_sig_res(x, weight, wide, 2.0).sum().backward()
    double = leaves(x.double(), weight.double(), bias.double())
    plain(*double, 2.0).sum().backward()
    assert wide.grad.dtype == torch.float32
    roundoff = torch.finfo(dtype).eps
    torch.testing.assert_close(wide.grad.double(), double[2].grad, rtol=roundoff, atol=0)
    for got, want in zip((x, weight), double, strict=False):
        assert (got.grad.double() - want.grad).abs().max() <= 4 * roundoff * want.grad.abs().max()


@pytest.mark.supports("gradient accumulation")
def test_accumulation():
    x, weight, bias = operands(8)
    whole, parts = leaves(weight, bias), leaves(weight, bias)
    fusedops.gemm_sig_res(x, *whole, 2.0).pow(2).sum().backward()
    for part in x.chunk(4):
        fusedops.gemm_sig_res(part, *parts, 2.0).pow(2).sum().backward()
    for got, want in zip(parts, whole, strict=True):
        torch.testing.assert_close(got.grad, want.grad)


@pytest.mark.supports("activation checkpointing, both kinds")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("scale", POLICIES.values(), ids=POLICIES)
def test_checkpointing(reentrant, scale):
    first, second = (fusedops.GemmSigRes(4, 4, scale, dtype=torch.float64) for _ in range(2))
    block = torch.nn.Sequential(first, torch.nn.Tanh(), second)
    x, _, _ = operands(5)
    held = partial(checkpoint, block, use_reentrant=reentrant)
    gradients = []
    for function in (held, block):
        block.zero_grad()
        (own,) = leaves(x)
        function(own).sum().backward()
        gradients.append([own.grad, *(each.grad for each in block.parameters())])
    for got, want in zip(*gradients, strict=True):
        assert torch.equal(got, want)


@pytest.mark.supports("selective checkpointing, by the operator's name; saved tensors offloaded")
def test_selective_checkpointing_and_offloading():
    x, weight, bias = operands(5)
    kept = []

    def policy(context, operator, *args, **kwargs):
        kept.append(operator)
        is_ours = operator == torch.ops.fusedops.gemm_sig_res.default
        return CheckpointPolicy.MUST_SAVE if is_ours else CheckpointPolicy.PREFER_RECOMPUTE

    def block(function, *given):
        return torch.tanh(function(*given, 2.0))

    def selective(*given):
        contexts = partial(create_selective_checkpoint_contexts, policy)
        call = partial(block, fusedops.gemm_sig_res)
        return checkpoint(call, *given, use_reentrant=False, context_fn=contexts)

    same_gradients(selective, partial(block, plain), x, weight, bias)
    assert torch.ops.fusedops.gemm_sig_res.default in kept

    def offloaded(*given):
        with torch.autograd.graph.save_on_cpu():
            return block(fusedops.gemm_sig_res, *given)

    same_gradients(offloaded, partial(block, plain), x, weight, bias)


@pytest.mark.supports("frozen layers that pass gradients on")
def test_a_frozen_layer_passes_gradients_on():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), fusedops.GemmSigRes(4, 3, 2.0))
    network[1].requires_grad_(False)
    network(torch.randn(5, 4)).sum().backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert network[1].weight.grad is None and network[1].bias.grad is None


ON_A_CARD = [pytest.param(each, marks=pytest.mark.gpu) for each in ("cuda", "triton")]


@pytest.mark.supports("a forced backend serves the gradient, too")
@pytest.mark.parametrize("backend", ["reference", "cpu", *ON_A_CARD])
def test_gradients_on_a_forced_backend(backend):
    declared = {each.backend for each in backends.backward_kernels()} - set(backends.missing())
    if backend not in declared:
        pytest.skip(f"no kernel of the gradient is declared and built for {backend}")
    device = "cuda" if backend in ("cuda", "triton") else "cpu"
    tensors = operands(64, n=32, k=16, dtype=torch.float32, device=device)
    forced = partial(fusedops.gemm_sig_res, scale=2.0, backend=backend)
    same_gradients(forced, partial(plain, scale=2.0), *tensors, rtol=1e-4, atol=1e-3)
    own = leaves(*tensors)
    with fusedops.use_backend(backend):
        y = fusedops.gemm_sig_res(*own, 2.0)
    with Watch() as watch:
        y.sum().backward()
    (args,) = [args for name, args in watch.calls if "gemm_sig_res_backward" in name]
    assert args[8] == backend, "after the context, the gradient is its call's"


@pytest.mark.supports("a learned scale, with no host synchronisation")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_scale_is_learned(device, shape):
    torch.manual_seed(0)
    scale = torch.nn.Parameter(torch.full(shape, 0.5, device=device))
    layer = fusedops.GemmSigRes(16, 8, scale, device=device)
    x = torch.randn(64, 16, device=device)
    target = plain(x, layer.weight, layer.bias, 3.0).detach()
    optimizer = torch.optim.SGD([scale], lr=1.0)
    layer(x).sum().backward()
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            optimizer.zero_grad()
            (layer(x) - target).pow(2).mean().backward()
            optimizer.step()
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(scale.detach(), torch.full_like(scale, 3.0), rtol=1e-2, atol=0)


@pytest.mark.supports("a scale's gradient is never lost: by position or name, with or without bias")
def test_a_scale_that_requires_grad_is_not_lost():
    x, weight, bias = operands(4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    op, forced = torch.ops.fusedops.gemm_sig_res, torch.ops.fusedops.gemm_sig_res_on
    for y in (
        fusedops.gemm_sig_res(x, weight, scale=scale),
        op(x, weight, None, scale),
        op(x, weight, scale=scale),
        op(x, weight=weight, bias=None, scale=scale),
        forced(x, weight, None, scale, "reference"),
    ):
        (gradient,) = torch.autograd.grad(y.sum(), scale)
        torch.testing.assert_close(gradient, torch.sigmoid(x @ weight.T).sum())
    with pytest.raises(TypeError, match="out takes a number as scale"):
        fusedops.gemm_sig_res(x, weight, bias, scale, out=torch.empty(4, 3, dtype=torch.float64))


@pytest.mark.supports("no_grad, detach, a graph used twice, hooks")
def test_the_usual_means():
    x, weight, bias = leaves(*operands(4))
    with torch.no_grad():
        assert not fusedops.gemm_sig_res(x, weight, bias, 2.0).requires_grad
    y = fusedops.gemm_sig_res(x, weight, bias, 2.0)
    assert not y.detach().requires_grad
    y.register_hook(lambda gradient: gradient * 2)
    y.sum().backward(retain_graph=True)
    once = x.grad.clone()
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()
