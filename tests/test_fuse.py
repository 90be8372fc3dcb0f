"""fusedops.fuse: what it finds in models written without it, what it leaves, and why."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fusedops
from fusedops import backends
from fusedops.numerics import FP32_ROUNDOFF, error_over_bound
from fusedops.plans import describe
from fusedops.registry import Accumulation

SUMMED = Accumulation(FP32_ROUNDOFF)
K, N = 33, 20

Forward = Callable[[nn.Module, torch.Tensor], object]


class Calls(TorchDispatchMode):
    """Counts the calls of the operator, and holds each result to the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = 0
        self.sigmoids = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.sigmoids += function is torch.ops.aten.sigmoid.default
        if function.namespace == "fusedops":
            self.fused += 1
            x, weight, bias, scale = (*args, *(None, 1.0)[len(args) - 2 :])
            assert error_over_bound(result, x, weight, bias, float(scale), SUMMED).max() <= 1
        return result


def run(model: Callable[..., object], *args: object, **kwargs: object) -> tuple[Calls, object]:
    with torch.no_grad(), Calls() as calls:
        y = model(*args, **kwargs)
    return calls, y


class Compiled:
    """A model under torch.compile, with the graphs that the backend hands on."""

    def __init__(self, model: Callable[..., object], **how: object) -> None:
        torch._dynamo.reset()
        self.targets: list[list[object]] = []
        self.backend = fusedops.FusingBackend(self.keep)
        self.call = torch.compile(model, backend=self.backend, **how)

    def keep(self, graph_module, example_inputs):
        self.targets.append([node.target for node in graph_module.graph.nodes])
        return graph_module

    def __call__(self, *args: object) -> object:
        with torch.no_grad():
            return self.call(*args)

    def fused(self) -> int:
        operator = fusedops.library.gemm_sig_res
        overloads = [getattr(operator, name) for name in operator.overloads()]
        return sum(target in overloads for targets in self.targets for target in targets)

    def replaced(self) -> int:
        return sum(len(report.replaced) for report in self.backend.reports)

    def left(self) -> list[str]:
        return [why for each in self.backend.reports for left in each.left for why in left.reasons]


class Written(nn.Module):
    """A model of one function, with everything that the functions below ask for."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(K, N)
        self.other = nn.Linear(K, N)
        self.unbiased = nn.Linear(K, N, bias=False)
        self.operator = fusedops.GemmSigRes(K, N)
        self.sigmoid = nn.Sigmoid()
        self.weight = nn.Parameter(torch.randn(N, K) / K**0.5)
        self.matrix = nn.Parameter(torch.randn(K, N) / K**0.5)
        self.bias = nn.Parameter(torch.randn(N))
        self.factor = 2.0
        self.register_buffer("scale", torch.tensor(2.0))
        self.learned = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("vector", torch.rand(N))
        self.register_buffer("whole", torch.tensor(2))
        self.register_buffer("wide", torch.rand(N, dtype=torch.float64))
        self.written = forward

    def forward(self, x):
        return self.written(self, x)


def kernelbench(model, x):
    x = model.linear(x)
    original_x = x
    x = torch.sigmoid(x)
    x = x * model.factor
    return x + original_x


def in_place_on_what_nobody_else_sees(model, x):
    z = model.linear(x)
    gate = z.sigmoid()
    gate *= 2
    z += gate
    return z


def scale_one(z):
    return z + torch.sigmoid(z)


# The sum, given z: scale 2 unless the name says otherwise.
SUMS: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "operators": lambda m, z: z + 2 * torch.sigmoid(z),
    "operators, other order": lambda m, z: torch.sigmoid(z) * 2.0 + z,
    "an attribute": lambda m, z: z + m.factor * torch.sigmoid(z),
    "functions": lambda m, z: torch.add(z, torch.mul(torch.sigmoid(z), 2)),
    "functions, other order": lambda m, z: torch.add(torch.multiply(2, F.sigmoid(z)), z),
    "keywords": lambda m, z: torch.add(input=z, other=torch.sigmoid(input=z), alpha=2),
    "methods": lambda m, z: z.add(z.sigmoid().mul(2)),
    "alpha": lambda m, z: z.add(torch.special.expit(z), alpha=2),
    "a module": lambda m, z: m.sigmoid(z) * 2 + z,
    "subtracted": lambda m, z: z - -2 * torch.sigmoid(z),
    "divided": lambda m, z: z + torch.sigmoid(z) / 0.5,
    "two factors": lambda m, z: z + 4 * (torch.sigmoid(z) * 0.5),
    "in place": lambda m, z: z.add_(z.sigmoid().mul_(2)),
}
LAYERS: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "a module": lambda m, x: m.linear(x),
    "a module without bias": lambda m, x: m.unbiased(x),
    "F.linear": lambda m, x: F.linear(x, m.weight, m.bias),
    "F.linear without bias": lambda m, x: F.linear(x, weight=m.weight),
    "another's parameters": lambda m, x: F.linear(x, m.other.weight, m.other.bias),
    "addmm": lambda m, x: torch.addmm(m.bias, x, m.weight.t()),
    "@ and +": lambda m, x: x @ m.weight.T + m.bias,
    "+ and matmul": lambda m, x: m.bias + torch.matmul(x, m.weight.transpose(0, 1)),
    "@ a (K, N) matrix": lambda m, x: x @ m.matrix,
    "addmm of a (K, N) matrix": lambda m, x: torch.addmm(m.bias, x, m.matrix),
    "mm": lambda m, x: torch.mm(x, m.weight.t()),
}
FOUND: dict[str, Forward] = {
    "KernelBench's": kernelbench,
    "in place on what nobody else sees": in_place_on_what_nobody_else_sees,
    "scale 1": lambda m, x: scale_one(m.linear(x)),
    **{f"sum: {name}": lambda m, x, y=y: y(m, m.linear(x)) for name, y in SUMS.items()},
    **{f"z: {name}": lambda m, x, z=z: SUMS["operators"](m, z(m, x)) for name, z in LAYERS.items()},
}


@pytest.mark.parametrize("writing", FOUND)
def test_every_way_of_writing_it(writing):
    model = Written(FOUND[writing])
    x = torch.randn(7, K)
    _, expected = run(model, x)
    returned, report = fusedops.fuse(model)
    assert returned is model
    assert len(report.replaced) == 1 and not report.left
    calls, y = run(model, x)
    assert (calls.fused, calls.sigmoids) == (1, 0)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("writing", FOUND)
def test_every_way_of_writing_it_compiled(writing):
    model = Written(FOUND[writing])
    compiled = Compiled(model, fullgraph=True)
    x = torch.randn(7, K)
    torch.testing.assert_close(compiled(x), run(model, x)[1])
    assert (compiled.fused(), compiled.replaced(), compiled.left()) == (1, 1, [])


def z_is_written(model, x):
    z = model.linear(x)
    gate = torch.sigmoid(z)
    z.add_(1)
    return z + gate


def z_is_written_through_a_view(model, x):
    z = model.linear(x)
    gate = torch.sigmoid(z)
    z.view(-1).mul_(3)
    return z + gate


def the_sigmoid_writes(model, x):
    z = model.linear(x)
    return z + z.sigmoid_()


def x_is_written_before_the_bias(model, x):
    x = x + 0
    product = x @ model.weight.T
    x.zero_()
    return scale_one(product + model.bias)


def the_product_is_used(model, x):
    product = x @ model.weight.T
    return scale_one(product + model.bias) * product.mean()


def twice(z, term):
    return z + term, term


def square(term):
    return term * term


def with_z(make: Callable[[nn.Module, torch.Tensor], object]) -> Forward:
    return lambda model, x: make(model, model.linear(x))


LEFT: dict[str, tuple[Forward, str]] = {
    "z used elsewhere": (
        with_z(lambda m, z: (z + torch.sigmoid(z)) * z.mean()),
        "z is used elsewhere: by mean",
    ),
    "z is a result": (with_z(lambda m, z: (z + torch.sigmoid(z), z)), "z is itself a result"),
    "the sigmoid used elsewhere": (
        with_z(lambda m, z: torch.add(*twice(z, torch.sigmoid(z)))),
        "the sigmoid is used 2 times",
    ),
    "the multiple used elsewhere": (
        with_z(lambda m, z: twice(z, 2 * torch.sigmoid(z))),
        "the sigmoid's multiple is used 2 times: .*the output",
    ),
    "another z": (
        lambda m, x: m.linear(x) + torch.sigmoid(m.other(x)),
        "not the z that the sigmoid is of",
    ),
    "the input in place of z": (
        lambda m, x: x[:, :N] + torch.sigmoid(m.linear(x)),
        "not the z that the sigmoid is of",
    ),
    "wrong order": (
        with_z(lambda m, z: z + torch.sigmoid(2 * z)),
        r"the sigmoid is of mul \(mul\), not of a linear layer's result",
    ),
    "scaled before": (
        with_z(lambda m, z: scale_one(2 * z)),
        "not of a linear layer's result",
    ),
    "written between": (z_is_written, "z is written in place by add_"),
    "written through a view": (z_is_written_through_a_view, "z is used elsewhere: by view"),
    "sigmoid in place": (the_sigmoid_writes, "sigmoid_ writes over z"),
    "a vector as scale": (
        with_z(lambda m, z: z + m.vector * torch.sigmoid(z)),
        r"the scale is a tensor of shape \(20,\), not a single number",
    ),
    "an integer tensor as scale": (
        with_z(lambda m, z: z + m.whole * torch.sigmoid(z)),
        "the scale is int64",
    ),
    "two tensors as scale": (
        with_z(lambda m, z: z + m.scale * (m.scale * torch.sigmoid(z))),
        "a tensor and another factor",
    ),
    "a tensor subtracted": (
        with_z(lambda m, z: z - m.scale * torch.sigmoid(z)),
        "a tensor and another factor",
    ),
    "a complex scale": (with_z(lambda m, z: z + 2j * torch.sigmoid(z)), "2j, not a real number"),
    "a scale out of range": (
        with_z(lambda m, z: z + 1e39 * torch.sigmoid(z)),
        "1e[+]39, not a float32 number",
    ),
    "a scale that is no number": (
        with_z(lambda m, z: z + float("nan") * torch.sigmoid(z)),
        "nan, not a float32 number",
    ),
    "swish": (with_z(lambda m, z: z + z * torch.sigmoid(z)), "the sigmoid is multiplied by z"),
    "squared": (
        with_z(lambda m, z: z + square(torch.sigmoid(z))),
        "the sigmoid is multiplied by itself",
    ),
    "sigmoid of a chunk": (
        with_z(lambda m, z: z + torch.sigmoid(z.chunk(1, -1)[0])),
        "not of a linear layer's result",
    ),
    "sigmoid of a view": (
        with_z(lambda m, z: z + torch.sigmoid(z.view(-1, N))),
        "the sigmoid is of view",
    ),
    "alpha on z": (
        with_z(lambda m, z: torch.add(torch.sigmoid(z), z, alpha=2)),
        "alpha=2 multiplies z, not the sigmoid",
    ),
    "z subtracted": (with_z(lambda m, z: torch.sigmoid(z) - z), "z is subtracted"),
    "the inverse": (with_z(lambda m, z: z + 2 / torch.sigmoid(z)), "divides a number"),
    "divided by a tensor": (
        with_z(lambda m, z: z + torch.sigmoid(z) / m.scale),
        "divided by a tensor",
    ),
    "rounded": (
        with_z(lambda m, z: z + torch.div(torch.sigmoid(z), 2, rounding_mode="floor")),
        "goes to div",
    ),
    "the sigmoid of a cast": (
        with_z(lambda m, z: z + torch.sigmoid(z.double())),
        r"the sigmoid is of double \(double\)",
    ),
    "a cast in place of z": (
        with_z(lambda m, z: z.double() + torch.sigmoid(z)),
        "the sum adds double",
    ),
    "a cast of the sigmoid": (
        with_z(lambda m, z: z + torch.sigmoid(z).double()),
        "the sigmoid goes to double",
    ),
    "no sum": (with_z(lambda m, z: torch.sigmoid(z)), "the sigmoid goes to the output"),
    "no linear layer": (lambda m, x: x + torch.sigmoid(x), "the sigmoid is of the input"),
    "addmm with beta": (
        lambda m, x: SUMS["operators"](m, torch.addmm(m.bias, x, m.weight.t(), beta=0.5)),
        "the sigmoid is of addmm",
    ),
    "a bias for each row": (
        lambda m, x: SUMS["operators"](m, x @ m.weight.T + m.bias[None]),
        "not known to have one number a column",
    ),
    "a wider bias": (
        lambda m, x: SUMS["operators"](m, x @ m.weight.T + m.wide),
        "the bias is float64, weight float32",
    ),
    "x written before the bias": (
        x_is_written_before_the_bias,
        "something is written in place between z and y: zero_",
    ),
    "the product used": (the_product_is_used, "the product of x and weight, before its bias"),
    "the operator before": (
        lambda m, x: scale_one(m.operator(x)),
        "the sigmoid is of operator, a GemmSigRes|of y",
    ),
    "two biases": (
        lambda m, x: SUMS["operators"](m, m.linear(x) + m.bias),
        "not of a linear layer's result",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_only_looks_like_it_is_left_with_the_reason(case):
    written, why = LEFT[case]
    model = Written(written)
    x = torch.randn(7, K)
    _, expected = run(model, x)
    report = fusedops.fuse(model).report
    assert not report.replaced and type(model) is Written
    reasons = [reason for left in report.left for reason in left.reasons]
    assert any(re.search(why, reason) for reason in reasons), report
    assert all(reason in str(report) for reason in reasons)
    torch.testing.assert_close(run(model, x)[1], expected, rtol=0, atol=0, equal_nan=True)

    compiled = Compiled(model)
    torch.testing.assert_close(compiled(x), expected, equal_nan=True)
    assert compiled.replaced() == 0
    assert compiled.fused() == (case == "the operator before")  # which the model calls itself
    assert any(re.search(why, reason) for reason in compiled.left()), compiled.left()


class KernelBench(nn.Module):
    """KernelBench level 2, problem 70, as it is written there."""

    def __init__(self, input_size, hidden_size, scaling_factor):
        super().__init__()
        self.gemm = nn.Linear(input_size, hidden_size)
        self.scaling_factor = scaling_factor

    def forward(self, x):
        x = self.gemm(x)
        original_x = x
        x = torch.sigmoid(x)
        x = x * self.scaling_factor
        x = x + original_x
        return x  # noqa: RET504


class Gate(nn.Module):
    """The epilogue alone: its z comes from another module."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.sigmoid = nn.Sigmoid()

    def forward(self, z):
        return torch.add(z, self.sigmoid(z), alpha=self.scale)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x, mask=None):
        batch, length, width = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A transformer's block whose feed-forward layers have the gate, in three writings."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, 4)
        self.up = nn.Sequential(nn.Linear(width, 2 * width), Gate(1.5), nn.Dropout(0.0))
        self.across = nn.Linear(2 * width, 2 * width, bias=False)
        self.down = nn.Parameter(torch.randn(width, 2 * width) / width**0.5)

    def forward(self, x, mask=None):
        x = x + self.attention(self.norms[0](x), mask)
        h = self.up(self.norms[1](x))
        z = self.across(h)
        h = z.sigmoid() + z
        z = h @ self.down.t()
        return x + (z - 0.5 * torch.sigmoid(z))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "KernelBench": (lambda: KernelBench(K, N, 2.0), (7, K), 1),
    "MLP": (
        lambda: nn.Sequential(
            nn.Linear(K, 64), Gate(2.0), nn.Linear(64, 64), Gate(-1), nn.Linear(64, N)
        ),
        (7, K),
        2,
    ),
    "transformer": (lambda: nn.Sequential(*(Block(32) for _ in range(3))), (2, 5, 32), 9),
}


@pytest.mark.parametrize("name", MODELS)
def test_written_models(name):
    make, shape, count = MODELS[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(shape)
    _, exact = run(copy.deepcopy(model).double(), x.double())
    keys = list(model.state_dict())
    parameters = list(model.parameters())

    compiled = Compiled(model, fullgraph=True)
    torch.testing.assert_close(compiled(x).double(), exact, rtol=1e-5, atol=1e-5)
    assert compiled.fused() == count and not compiled.left()

    report = fusedops.fuse(model).report
    assert len(report.replaced) == count and not report.left, report
    calls, y = run(model, x)
    assert (calls.fused, calls.sigmoids) == (count, 0)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)

    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    fusedops.unfuse(model)
    assert run(model, x)[0].fused == 0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kernelbench_stays_within_the_bound(dtype, device):
    model = KernelBench(64, 48, 2.0).to(device, dtype)
    x = torch.rand(9, 64).to(device, dtype)
    weight, bias = model.gemm.weight, model.gemm.bias
    declared = {each.name: each.accumulation for each in backends.kernels()}
    accumulation = declared[fusedops.explain(x, weight, bias).kernel](describe(x, weight, bias))
    compiled = Compiled(copy.deepcopy(model), fullgraph=True)
    fusedops.fuse(model)
    with torch.no_grad():
        for y in (model(x), compiled(x)):
            assert error_over_bound(y, x, weight, bias, 2.0, accumulation).max() <= 1
            assert y.dtype == dtype
    assert compiled.fused() == 1


def test_the_report_says_where():
    torch.manual_seed(0)
    report = fusedops.fuse(nn.Sequential(Block(32), KernelBench(32, 8, 2.0))).report
    assert {(each.module, each.linear, each.scale) for each in report.replaced} == {
        ("0.up", "0.up.0", 1.5),
        ("0", "0.across", 1.0),
        ("0", "0.down", -0.5),
        ("1", "1.gemm", 2.0),
    }
    text = str(fusedops.fuse(Written(LEFT["no sum"][0])).report)
    assert text.startswith("replaced: 0\nleft: 1\n  the model: sigmoid at test_fuse.py:")
    assert text.endswith("\n      - the sigmoid goes to the output, not to a sum with z")


def test_several_calls_of_one_layer():
    def twice_over(model, x):
        return scale_one(model.linear(x)) + scale_one(model.linear(2 * x))

    model = Written(twice_over)
    x = torch.randn(3, K)
    _, expected = run(model, x)
    fusedops.fuse(model)
    calls, y = run(model, x)
    assert calls.fused == 2
    torch.testing.assert_close(y, expected)


def test_a_transpose_that_is_none():
    def layer(model, x):
        return scale_one(x @ model.weight[:, :N].transpose(0, 0))

    model = Written(layer)
    x = torch.randn(3, N)
    torch.testing.assert_close(Compiled(model)(x), run(model, x)[1])


def test_operands_are_read_where_z_was():
    """What is written to x, or to a scale, after z must not reach z."""

    def later(model, x):
        x = x + 0
        z = model.linear(x)
        x.zero_()
        return z + 2 * torch.sigmoid(z)

    model = Written(later)
    x = torch.randn(3, K)
    _, expected = run(model, x)
    assert fusedops.fuse(model).report.replaced
    torch.testing.assert_close(run(model, x)[1], expected)
