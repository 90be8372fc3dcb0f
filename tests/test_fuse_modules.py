"""What becomes of fused modules: copies, pickles, hooks, changes; and what is never traced."""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import fusedops

K = 16


def operators(model, *args, **kwargs) -> list[str]:
    """The names of the operators that a call runs, with the operator's own as one."""
    names = []

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(function._opname)
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Listen():
        model(*args, **kwargs)
    return names


def is_fused(model, *args, **kwargs) -> bool:
    names = operators(model, *(args or (torch.randn(3, K),)), **kwargs)
    assert ("gemm_sig_res" in names) != ("sigmoid" in names)
    return "sigmoid" not in names


def gate(z, scale=1.0):
    return z + scale * torch.sigmoid(z)


class Layer(nn.Module):
    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        self.linear = nn.Linear(K, K)
        self.scale = scale

    def forward(self, x, mask=None, *, negate=False):
        y = gate(self.linear(x), self.scale)
        y = y if mask is None else y * mask
        return -y if negate else y


class Spread(nn.Module):
    """z in one module, the sum in another."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(K, K)
        self.gate = Gate()

    def forward(self, x):
        return self.gate(self.linear(x))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()
        self.scale = 1.5

    def forward(self, z):
        return z + self.scale * self.sigmoid(z)


MODULES = {"one module": Layer, "two modules": Spread}


def fused(make):
    torch.manual_seed(0)
    model = make().eval()
    assert fusedops.fuse(model).report.replaced
    return model


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@torch.no_grad()
def test_copies_and_pickles_are_fused_and_apart(make):
    def saved(model):
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    model, x = fused(make), torch.randn(3, K)
    y = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), saved(model)):
        assert is_fused(twin) and torch.equal(twin(x), y)
        assert isinstance(twin, make) and not twin.training
        twin.linear.weight.zero_()
        assert not torch.equal(twin(x), y) and torch.equal(model(x), y)
    shallow = copy.copy(model)
    shallow._modules = {**model._modules, "linear": nn.Linear(K, K)}
    assert is_fused(shallow) and not torch.equal(shallow(x), y)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@torch.no_grad()
def test_state_moves_to_and_from_the_model_as_it_was(make):
    model, plain, x = fused(make), make(), torch.randn(3, K)
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(x), model(x))
    model.load_state_dict(make().state_dict(), assign=True)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(x), model(x))
    model.double()
    assert is_fused(model, x.double()) and model(x.double()).dtype == torch.float64


def test_fusing_twice_and_back():
    model = fused(Layer)
    assert len(fusedops.fuse(model).report.replaced) == 1
    assert is_fused(model) and type(model).__mro__.count(Layer) == 1
    assert fusedops.unfuse(model) is model
    assert type(model) is Layer and not is_fused(model)
    fusedops.unfuse(model)


@torch.no_grad()
def test_each_kind_of_call_has_its_trace_or_runs_the_original():
    model, plain, x = fused(Layer), Layer(), torch.randn(3, K)
    plain.load_state_dict(model.state_dict())
    mask = torch.rand(K)
    for fuses, args, kwargs in (
        (True, (x,), {}),
        (True, (), {"x": x}),
        (True, (x, None), {}),
        (True, (x,), {"mask": None, "negate": False}),
        (True, (x, mask), {}),
        (True, (x,), {"mask": mask, "negate": False}),
        (True, (x,), {"negate": True}),
        (True, (x,), {"negate": 1}),
        (False, (x,), {"negate": [1]}),
        (False, (x,), {"negate": torch.tensor(True)}),
    ):
        assert is_fused(model, *args, **kwargs) == fuses
        torch.testing.assert_close(model(*args, **kwargs), plain(*args, **kwargs))
    for args in ((), (x, x, x), (None,)):
        with pytest.raises((TypeError, AttributeError)):
            model(*args)
    with pytest.raises(TypeError, match="unexpected"):
        model(x, other=1)


@torch.no_grad()
def test_what_the_trace_took_for_granted_may_change():
    model, x = fused(Spread), torch.randn(3, K)

    def check(fuses):
        assert is_fused(model) == fuses
        torch.testing.assert_close(model(x), Spread.forward(model, x))

    model.gate.scale = 3.0
    check(True)
    model.linear = nn.Linear(K, K)
    check(True)
    hook = model.linear.register_forward_hook(lambda module, args, z: 2 * z)
    check(False)
    hook.remove()
    check(True)
    hook = model.gate.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    check(False)
    hook.remove()
    check(True)
    model.gate.sigmoid.register_forward_hook(lambda module, args, y: 2 * y)
    check(False)
    model.gate = Gate()
    check(True)
    model.gate.forward = lambda z: z
    assert torch.equal(model(x), model.linear(x))
    del model.gate.forward
    check(True)
    model.linear = nn.Sequential(nn.Linear(K, K))
    check(False)
    model.gate = nn.Identity()
    assert torch.equal(model(x), model.linear(x))


@torch.no_grad()
@pytest.mark.parametrize("late", [False, True])
def test_hooks_of_submodules_run_once_a_call(late):
    """Also those that only look, and would not change what a trace records."""
    model, x, seen = Spread(), torch.randn(3, K), []
    if late:
        fusedops.fuse(model)
    model.gate.register_forward_hook(lambda module, args, y: seen.append(y.sum().item()))
    if not late:
        assert "the sigmoid is of the input" in str(fusedops.fuse(model).report)
    seen.clear()
    for calls in (1, 2):
        model(x)
        assert len(seen) == calls


@torch.no_grad()
def test_hooks_of_the_model_itself_still_run():
    model, x = Layer(), torch.randn(3, K)
    model.register_forward_hook(lambda module, args, y: y + 1)
    expected = model(x)
    fusedops.fuse(model)
    assert is_fused(model)
    torch.testing.assert_close(model(x), expected)


@torch.no_grad()
def test_a_parametrized_weight_is_computed_at_each_call():
    model, x = fused(Layer), torch.randn(3, K)
    parametrize.register_parametrization(model.linear, "weight", nn.Tanh())
    assert is_fused(model)
    torch.testing.assert_close(model(x), Layer.forward(model, x))
    with parametrize.cached():
        assert is_fused(model)


@torch.no_grad()
def test_a_subclass_of_linear_is_taken_for_what_it_computes():
    class Same(nn.Linear):
        pass

    class Doubled(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    class Clipped(nn.Linear):
        def forward(self, input):
            return F.linear(input, self.weight.clamp(-1, 1), self.bias)

    for kind, replaced in ((Same, 1), (Doubled, 0), (Clipped, 0)):
        model, x = nn.Sequential(kind(K, K), Gate()), torch.randn(3, K)
        expected = model(x)
        assert len(fusedops.fuse(model).report.replaced) == replaced
        torch.testing.assert_close(model(x), expected)


def traces_no_grad(model, x):
    z = model.linear(x)
    with torch.no_grad():
        term = torch.sigmoid(z)
    return z + term


def traces_autocast(model, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return gate(model.linear(x))


def branches_on_training(model, x):
    return gate(F.dropout(model.linear(x), 0.5, model.training))


def branches_on_grad_mode(model, x):
    return gate(model.linear(x)) if torch.is_grad_enabled() else gate(2 * model.linear(x))


def branches_on_a_value(model, x):
    return gate(model.linear(x)) if x.sum() > 0 else x


def branches_on_a_shape(model, x):
    return gate(model.linear(x)) if x.shape[0] == 3 else x


def branches_on_a_type(model, x):
    return gate(model.linear(x)) if isinstance(x, torch.Tensor) else x


def makes_a_tensor(model, x):
    return gate(model.linear(x)) + torch.rand(K)


def keeps_something(model, x):
    model.kept = model.linear(x)
    return gate(model.linear(x))


def checkpoints(model, x):
    return checkpoint(lambda each: gate(model.linear(each)), x, use_reentrant=False)


def goes_through_a_hook(model, x):
    return gate(model.hooked(x))


def looks_for_a_method(model, x):
    return gate(model.linear(x.tensors if hasattr(x, "tensors") else x))


UNTRACED = {
    traces_no_grad: "computes under no_grad",
    traces_autocast: "computes under no_grad, autocast",
    branches_on_training: "one thing in training and another in evaluation",
    branches_on_grad_mode: "one thing in training and another in evaluation",
    branches_on_a_value: "TraceError: symbolically traced variables cannot be used as inputs to",
    branches_on_a_shape: "TraceError: symbolically traced variables cannot be used as inputs to",
    branches_on_a_type: "asks for the type of a value",
    makes_a_tensor: r"makes a tensor, of shape \(16,\), that depends on no input",
    keeps_something: "assigns to kept",
    checkpoints: "computes under no_grad, autocast, a checkpoint",
    goes_through_a_hook: "hooked, a Linear that has hooks",
}


class Does(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.linear = nn.Linear(K, K)
        self.hooked = nn.Linear(K, K)
        self.hooked.register_forward_hook(lambda module, args, z: z + 1)
        self.what = what

    def forward(self, x):
        return self.what(self, x)


@pytest.mark.parametrize("what", UNTRACED, ids=lambda what: what.__name__)
def test_what_a_trace_would_lose_is_left_with_the_reason(what):
    model = nn.Sequential(Does(what), Layer())
    before = dict(model[0].__dict__)
    report = fusedops.fuse(model).report
    assert [each.module for each in report.replaced] == ["1"]
    assert [each.module for each in report.left] == ["0"]
    assert re.search(UNTRACED[what], report.left[0].reasons[0])
    assert type(model[0]) is Does
    assert model[0].__dict__ == before


@torch.no_grad()
def test_what_tensors_lack_is_not_found_in_a_trace():
    model, x = Does(looks_for_a_method), torch.randn(3, K)
    assert fusedops.fuse(model).report.replaced
    torch.testing.assert_close(model(x), looks_for_a_method(model, x))


@torch.no_grad()
def test_the_forward_counts_and_not_the_name_of_the_class():
    """fully_shard, for one, gives a module a class of PyTorch's."""
    kind = type("Wrapped", (Layer,), {"__module__": "torch.distributed.wrapped"})
    model, x = kind(), torch.randn(3, K)
    expected = model(x)
    assert len(fusedops.fuse(model).report.replaced) == 1
    torch.testing.assert_close(model(x), expected)
    fusedops.unfuse(model)
    assert type(model) is kind


class Decides(nn.Module):
    """Not to be traced, and its submodules are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Spread()
        self.second = nn.Sequential(nn.Linear(K, K), Gate())

    def forward(self, x):
        return self.first(x) if x.sum() > 0 else self.second(x)


@torch.no_grad()
def test_submodules_of_what_cannot_be_traced_are_fused():
    model, x = Decides(), torch.ones(3, K)
    expected = [model(x), model(-x)]
    report = fusedops.fuse(model).report
    assert {each.module for each in report.replaced} == {"first", "second"}
    assert [each.module for each in report.left] == [""]
    assert is_fused(model, x) and is_fused(model, -x)
    torch.testing.assert_close([model(x), model(-x)], expected)


@torch.no_grad()
def test_a_gate_that_others_use_stays_what_it_is():
    """Two modules share a gate; one of them feeds it with a linear layer's result."""

    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(K, K)
            self.gate = Gate()

        def forward(self, x):
            return self.gate(self.linear(x)) + self.gate(x)

    model, x = Shares(), torch.randn(3, K)
    expected = model(x)
    report = fusedops.fuse(model).report
    assert len(report.replaced) == len(report.left) == 1
    assert operators(model, x).count("sigmoid") == operators(model, x).count("gemm_sig_res") == 1
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model.gate(x), gate(x, 1.5))


@torch.no_grad()
def test_a_pattern_of_another_call_is_not_claimed():
    """A module that has the pattern only for an argument that its parent passes."""

    class Asked(Layer):
        def forward(self, x, fancy=False):
            return super().forward(x) if fancy else self.linear(x)

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.asked = Asked()

        def forward(self, x):
            return self.asked(x, fancy=True)

    model, x = Asks(), torch.randn(3, K)
    expected = model(x)
    report = fusedops.fuse(model).report
    assert not report.replaced
    assert "only for a call that passes more" in str(report)
    torch.testing.assert_close(model(x), expected)


@torch.no_grad()
def test_calls_of_endless_kinds_end_with_the_original():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(K, K)

        def forward(self, x, scale=1.0):
            return gate(self.linear(x), scale)

    model, x = fused(Scaled), torch.randn(3, K)
    fuses = []
    for scale in range(40):
        fuses.append(is_fused(model, x, scale / 8))
        torch.testing.assert_close(model(x, scale / 8), Scaled.forward(model, x, scale / 8))
    assert fuses == sorted(fuses, reverse=True) and 1 < sum(fuses) < 40
    assert is_fused(model, x)


def test_only_modules_are_fused():
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, not function; .*compile"):
        fusedops.fuse(gate)


@torch.no_grad()
def test_autocast_gives_what_the_original_gives():
    model, plain, x = fused(Layer), Layer(), torch.randn(3, K)
    plain.load_state_dict(model.state_dict())
    compiled = torch.compile(plain, backend=fusedops.FusingBackend("eager"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plain(x)
        assert expected.dtype == torch.bfloat16
        for y in (model(x), compiled(x)):  # z may be rounded once less
            torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2)
