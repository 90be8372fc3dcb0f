"""torch.func and forward-mode AD: right, or an error in words; never a tangent lost."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import func
from torch.autograd import forward_ad

import fusedops
from fusedops.numerics import error_over_bound
from fusedops.registry import Accumulation

NAMES = ("x", "weight", "bias", "scale")
SUBSETS = [each for size in range(1, 5) for each in itertools.combinations(range(4), size)]
HOST = [torch.profiler.ProfilerActivity.CPU]
RAW = torch.ops.fusedops.gemm_sig_res


def named(subset: tuple[int, ...]) -> str:
    return "-".join(NAMES[index] for index in subset)


def operands(*leading: int, n: int = 3, k: int = 4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    shapes = ((*leading, k), (n, k), (n,), ())
    return tuple(torch.randn(each, generator=generator, dtype=dtype) for each in shapes)


def plain(x, weight, bias=None, scale=1.0):
    z = torch.nn.functional.linear(x, weight, bias)
    return z + scale * torch.sigmoid(z)


def loss(function, *given):
    return function(*given).sin().sum()


@pytest.mark.supports("torch.vmap over any of x, weight, bias and scale, along any dimension")
@pytest.mark.parametrize("subset", SUBSETS, ids=named)
@pytest.mark.parametrize("dim", [0, -1])
def test_vmap_over_any_subset(subset, dim):
    given = operands(2)
    dims = tuple(dim if index in subset else None for index in range(4))
    batch = tuple(
        torch.stack([each, 2 * each, -each], dim) if index in subset else each
        for index, each in enumerate(given)
    )
    expected = torch.vmap(plain, dims)(*batch)
    for function in (fusedops.gemm_sig_res, RAW):
        torch.testing.assert_close(torch.vmap(function, dims)(*batch), expected)


@pytest.mark.supports("vmap over a number as scale, names, no bias, a vector as x, empty batches")
def test_vmap_over_every_kind_of_call():
    x, weight, bias, _ = operands(5)
    expected = plain(x, weight, bias, 2.0)
    for call in (
        lambda row: fusedops.gemm_sig_res(row, weight, bias, 2.0),
        lambda row: fusedops.gemm_sig_res(row, weight, bias, 2.0, backend="reference"),
        lambda row: RAW(row, weight=weight, bias=bias, scale=2.0),
        lambda row: RAW.default(row, weight, bias, 2.0),
    ):
        torch.testing.assert_close(torch.vmap(call)(x), expected)
    by_column = torch.vmap(lambda row: fusedops.gemm_sig_res(x, row[None]), out_dims=1)(weight)
    torch.testing.assert_close(by_column[..., 0], plain(x, weight))
    nested = torch.vmap(torch.vmap(fusedops.gemm_sig_res, (None, 0)), (0, None))
    torch.testing.assert_close(nested(x, weight[:, None])[..., 0], plain(x, weight))
    for batch, n, k in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        x, weight = torch.zeros(batch, 5, k), torch.zeros(batch, n, k)
        y = torch.vmap(fusedops.gemm_sig_res)(x, weight)
        assert y.shape == (batch, 5, n) and (y == 0.5).all()


@pytest.mark.supports("vmap over x alone is one call of the kernel")
def test_vmap_over_x_is_one_larger_call():
    x, weight, bias, _ = operands(6, 2)
    with torch.profiler.profile(activities=HOST) as profile:
        torch.vmap(lambda each: fusedops.gemm_sig_res(each, weight, bias, 2.0))(x)
    assert sum(event.name.startswith("fusedops.") for event in profile.events()) == 1


TRANSFORMS = {
    "grad": lambda f: func.grad(partial(loss, f), argnums=(0, 1, 2, 3)),
    "vjp": lambda f: lambda *given: func.vjp(f, *given)[1](torch.ones(2, 3).double()),
    "jacrev": lambda f: func.jacrev(f, argnums=(0, 1, 2, 3)),
    "jacfwd": lambda f: func.jacfwd(f, argnums=(0, 1, 2, 3)),
    "hessian": lambda f: func.hessian(partial(loss, f), argnums=(0, 1, 2, 3)),
    "jacrev of jacrev": lambda f: func.jacrev(func.jacrev(partial(loss, f), 1), 0),
    "grad of vmap": lambda f: func.grad(partial(loss, torch.vmap(f, (0, None, None, None)))),
    "linearize": lambda f: lambda *given: func.linearize(f, *given)[1](*given),
}  # fmt: skip


@pytest.mark.supports("torch.func: grad, vjp, jacrev, jacfwd, hessian, linearize, nested")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", [fusedops.gemm_sig_res, RAW], ids=["function", "operator"])
def test_transforms_of_torch_func(transform, function):
    given = operands(2)
    result = TRANSFORMS[transform](function)(*given)
    torch.testing.assert_close(result, TRANSFORMS[transform](plain)(*given))


@pytest.mark.supports("torch.func.jvp and forward-mode AD, by any operand")
@pytest.mark.parametrize("subset", SUBSETS, ids=named)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_mode_by_any_subset(subset):
    given = operands(2)
    tangents = tuple(each.cos() for each in given)

    def of(function):
        def moved(*changed):
            own = list(given)
            for index, each in zip(subset, changed, strict=True):
                own[index] = each
            return function(*own)

        return moved

    primals = tuple(given[index] for index in subset)
    along = tuple(tangents[index] for index in subset)
    expected = func.jvp(of(plain), primals, along)
    assert expected[1].abs().min() > 0
    for function in (fusedops.gemm_sig_res, RAW):
        torch.testing.assert_close(func.jvp(of(function), primals, along), expected)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(primals, along, strict=True)]
            y = forward_ad.unpack_dual(of(function)(*duals))
            torch.testing.assert_close((y.primal, y.tangent), expected)


@pytest.mark.supports("forward over reverse: a Hessian-vector product")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_over_reverse():
    x, weight, bias, scale = operands(2)
    results = []
    for function in (fusedops.gemm_sig_res, plain):
        slope = func.grad(lambda own, f=function: loss(f, own, weight, bias, scale))
        results.append(func.jvp(slope, (x,), (x.cos(),)))
    torch.testing.assert_close(*results)


@pytest.mark.supports("per-sample gradients of a layer: vmap of grad of functional_call")
def test_per_sample_gradients():
    layer = fusedops.GemmSigRes(4, 3, torch.nn.Parameter(torch.tensor(2.0)), dtype=torch.float64)
    state = {name: each.detach() for name, each in layer.named_parameters()}
    x = operands(5)[0]

    def loss_of(state, sample):
        return func.functional_call(layer, state, (sample,)).sin().sum()

    batched = torch.vmap(func.grad(loss_of), (None, 0))(state, x)
    for index, sample in enumerate(x):
        layer.zero_grad()
        layer(sample).sin().sum().backward()
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(batched[name][index], parameter.grad.to(batched[name].dtype))


@pytest.mark.supports("a vmap over backward: is_grads_batched, autograd.functional, create_graph")
@pytest.mark.parametrize("scale", [2.0, 20.0, "a tensor"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_vmap_over_backward(scale, create_graph):
    *given, number = operands(2)
    given = [*given, number if scale == "a tensor" else scale]
    directions = torch.randn(5, 2, 3, dtype=torch.float64)

    def batched(function):
        own = [each.clone().requires_grad_() if torch.is_tensor(each) else each for each in given]
        wanted = [each for each in own if torch.is_tensor(each)]
        y = function(*own)
        ways = {
            "is_grads_batched": torch.autograd.grad(
                y, wanted, directions, True, create_graph, is_grads_batched=True
            ),
            "torch.vmap": torch.vmap(
                lambda each: torch.autograd.grad(y, wanted, each, True, create_graph)
            )(directions),
            "functional.jacobian": torch.autograd.functional.jacobian(
                lambda *moved: function(*moved, *own[len(moved) :]), tuple(wanted), vectorize=True
            ),
        }
        if create_graph:
            total = sum(each.sin().sum() for each in ways["is_grads_batched"])
            ways["once more"] = torch.autograd.grad(total, wanted)
        return ways

    torch.testing.assert_close(batched(fusedops.gemm_sig_res), batched(plain))


@pytest.mark.supports("transforms in 16 bits, inside autocast too, keep the error bound")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", [fusedops.gemm_sig_res, RAW], ids=["function", "operator"])
def test_transforms_keep_the_error_bound(device, dtype, function):
    x, weight, bias = (each.to(device) for each in operands(32, n=8, k=24, dtype=torch.float32)[:3])
    low = x.to(dtype), weight.to(dtype), bias

    def results(x, weight, bias):
        return (
            func.vjp(lambda own: function(own, weight, bias, 2.0), x)[0],
            func.jvp(lambda own: function(own, weight, bias, 2.0), (x,), (x,))[0],
            torch.vmap(lambda own: function(own, weight, bias, 2.0))(x),
            torch.vmap(lambda own: function(x, own, bias, 2.0))(weight[None])[0],
            func.vjp(torch.vmap(lambda own: function(x, own, bias, 2.0)), weight[None])[0][0],
        )

    with torch.autocast(device, dtype):
        autocast = results(x, weight, bias)
    for y in (*results(*low), *autocast):
        assert y.dtype == dtype
        assert error_over_bound(y, *low, 2.0, Accumulation(2.0**-24, 1 / 8)).max() <= 1


@pytest.mark.supports("gradients through a vmap")
@pytest.mark.parametrize("subset", SUBSETS, ids=named)
def test_gradients_through_a_vmap(subset):
    dims = tuple(0 if index in subset else None for index in range(4))
    results = []
    for function in (fusedops.gemm_sig_res, plain):
        given = [
            torch.stack([each, 2 * each]) if index in subset else each.clone()
            for index, each in enumerate(operands(2))
        ]
        for each in given:
            each.requires_grad_()
        torch.vmap(function, dims)(*given).sin().sum().backward()
        results.append([each.grad for each in given])
    torch.testing.assert_close(*results)


@pytest.mark.supports("torch.compile of vmap, of jvp and of per-sample gradients")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_transforms(backend):
    x, weight, bias, scale = operands(4)
    cases = {
        "vmap": lambda f: torch.vmap(lambda row, w: f(row, w, bias, 2.0), (0, None))(x, weight),
        "vmap over weights": lambda f: torch.vmap(f, (None, 0))(x, weight[:, None]),
        "per sample": lambda f: torch.vmap(
            func.grad(lambda w, row: f(row, w, bias, scale).sin().sum()), (None, 0)
        )(weight, x),
        "jvp": lambda f: func.jvp(lambda own: f(own, weight, bias, 2.0), (x,), (x.cos(),)),
    }
    for name, case in cases.items():
        torch._dynamo.reset()
        compiled = torch.compile(partial(case, fusedops.gemm_sig_res), backend=backend)
        torch.testing.assert_close(
            compiled(), case(plain), msg=lambda text, at=name: f"{at}: {text}"
        )


@pytest.mark.supports("a forced kernel under a transform that is plain torch", answer="an error")
@pytest.mark.parametrize("backend", ["cuda", "triton", "cpu"])
def test_a_forced_backend_is_refused_where_it_cannot_serve(backend):
    x, weight, bias, _ = operands(2)
    call = partial(fusedops.gemm_sig_res, bias=bias, scale=2.0, backend=backend)
    for transformed in (
        lambda: func.grad(lambda own: call(own, weight).sum())(x),
        lambda: func.jvp(lambda own: call(own, weight), (x,), (x,)),
        lambda: torch.vmap(call, (None, 0))(x, weight[None]),
    ):
        with pytest.raises(fusedops.NoKernelError, match=f"{backend}.* Remedy: ask for 'auto'"):
            transformed()


@pytest.mark.supports("operands that do not fit, under a transform", answer="the usual error")
def test_bad_operands_under_transforms():
    x, weight, bias, _ = operands(4)
    cases = {
        "x must be": lambda: torch.vmap(lambda own: RAW(own, weight))(x[0]),
        "one dtype": lambda: torch.vmap(lambda own: RAW(x.float(), own))(weight[None]),
        "bias must be": lambda: torch.vmap(lambda own: RAW(x, weight, own))(bias[:, None]),
        "0-d tensor": lambda: torch.vmap(lambda own: RAW(x, weight, bias, own))(bias[:, None]),
        "share one dtype": lambda: func.grad(lambda own: RAW(own, weight.half()).sum())(x),
    }
    for text, case in cases.items():
        with pytest.raises((TypeError, ValueError), match=text):
            case()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(TypeError, match="int64"):
        func.vjp(lambda own: RAW(x.long(), own), weight.float())


@pytest.mark.supports("out= under vmap, jvp or forward-mode AD", answer="an error")
def test_a_given_result_under_transforms():
    x, weight, bias, _ = operands(2)
    out = torch.empty(2, 3, dtype=torch.float64)
    call = partial(fusedops.gemm_sig_res, weight=weight, bias=bias, scale=2.0, out=out)
    for transformed in (
        lambda: torch.vmap(call)(x[None]),
        lambda: func.jvp(call, (x,), (x,)),
        lambda: func.vjp(call, x),
    ):
        with pytest.raises(RuntimeError, match=r"out=|vmap"):
            transformed()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="cannot be differentiated"):
        call(forward_ad.make_dual(x, x))
