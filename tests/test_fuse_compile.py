"""fusedops as a backend of torch.compile, and fused models under other backends."""

from __future__ import annotations

import logging
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusedops
from fusedops.fusion import match, operator_support

K = 16


def gate(z, scale=1.0):
    return z + scale * torch.sigmoid(z)


class Layer(nn.Module):
    def __init__(self, scale: float = 2.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(K, K)
        self.scale = scale

    def forward(self, x):
        return gate(self.linear(x), self.scale)


class WithTensor(nn.Module):
    """The scale is a tensor: a buffer, computed, or of another dtype or shape."""

    def __init__(self, scale: torch.Tensor, computed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(K, K)
        self.register_buffer("scale", scale)
        self.computed = computed

    def forward(self, x):
        z = self.linear(x)
        scale = self.scale.exp() if self.computed else self.scale
        return z + torch.sigmoid(z) * scale


class Graphs:
    """A backend that keeps the graphs it is handed, and runs them."""

    def __init__(self) -> None:
        self.kept: list[torch.fx.GraphModule] = []

    def __call__(self, graph_module, example_inputs):
        self.kept.append(graph_module)
        return graph_module

    def fused(self) -> list[int]:
        return [
            sum("gemm_sig_res" in str(n.target) for n in each.graph.nodes) for each in self.kept
        ]


def compiled(model, inner=None, **how):
    torch._dynamo.reset()
    backend = fusedops.FusingBackend(inner or Graphs())
    return torch.compile(model, backend=backend, **how), backend


@torch.no_grad()
@pytest.mark.parametrize("backend", ["fusedops", fusedops.compile_backend])
def test_by_name_and_by_value_with_inductor(backend, caplog):
    torch._dynamo.reset()
    model, x = Layer(), torch.randn(5, K)
    call = torch.compile(lambda x: 2 * model(x + 1), backend=backend, fullgraph=True)
    with caplog.at_level(logging.INFO, "fusedops"):
        y = call(x)
    torch.testing.assert_close(y, 2 * model(x + 1))
    assert "replaced: 1\n  " in caplog.text and "linear, scale 2.0" in caplog.text


@torch.no_grad()
def test_inductor_takes_mode_and_options(monkeypatch):
    model, x = Layer(), torch.randn(5, K)
    compile_graph, taken = torch._inductor.compile, {}

    def spy(graph_module, example_inputs, options):
        taken.update(options)
        return compile_graph(graph_module, example_inputs, options)

    monkeypatch.setattr(torch._inductor, "compile", spy)
    for how in ({"mode": "reduce-overhead"}, {"options": {"epilogue_fusion": False}}):
        call, backend = compiled(model, "inductor", fullgraph=True, **how)
        torch.testing.assert_close(call(x), model(x))
        assert len(backend.reports[0].replaced) == 1
    assert taken == {"triton.cudagraphs": True, "epilogue_fusion": False}
    call, _ = compiled(model, "inductor", options={"no_such_option": 1})
    with pytest.raises(Exception, match="no_such_option"):
        call(x)


@torch.no_grad()
@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("inner", ["inductor", "aot_eager", "eager"])
def test_new_batch_sizes_do_not_recompile(inner, dynamic):
    model = Layer()
    call, backend = compiled(model, inner, fullgraph=True, dynamic=dynamic)
    compilations = []
    for rows in (4, 7, 9, 20):
        x = torch.randn(rows, K)
        torch.testing.assert_close(call(x), model(x))
        compilations.append(len(backend.reports))
    assert compilations[0 if dynamic else 1] == compilations[-1]
    assert all(len(report.replaced) == 1 for report in backend.reports)


@torch.no_grad()
def test_a_number_that_changes_does_not_recompile_each_time():
    model, x = Layer(), torch.randn(5, K)
    call, backend = compiled(model, fullgraph=True)
    for scale in (2.0, 3.0, 4.0, 5.0):
        model.scale = scale
        torch.testing.assert_close(call(x), model(x))
    assert len(backend.reports) == 2
    assert backend.reports[0].replaced
    if operator_support.tensor_scale() is None:
        assert "changes from call to call" in str(backend.reports[1])
    else:
        assert backend.reports[1].replaced


SCALES = {
    "a buffer": (lambda: WithTensor(torch.tensor(1.5)), True),
    "computed": (lambda: WithTensor(torch.tensor(0.5), computed=True), True),
    "of a wider dtype": (lambda: WithTensor(torch.tensor(1.5, dtype=torch.float64)), True),
    "one element": (lambda: WithTensor(torch.tensor([1.5])), False),
    "complex": (lambda: WithTensor(torch.tensor(1.5j)), False),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", SCALES)
def test_a_tensor_as_scale(kind):
    """Replaced where the operator takes one; its value is read at each call."""
    make, fits = SCALES[kind]
    fits = fits and operator_support.tensor_scale() is not None
    model, plain, x = make(), make(), torch.randn(5, K)
    call, backend = compiled(plain, fullgraph=True)
    known = kind != "computed"  # to torch.fx: it does not run the graph that it records
    replaced = fusedops.fuse(model).report.replaced
    assert len(replaced) == (fits and known)
    for value in (1.0, -2.0):
        plain.scale.fill_(value)
        model.scale.fill_(value)
        torch.testing.assert_close(model(x), plain(x))
        torch.testing.assert_close(call(x), plain(x))
    assert [len(report.replaced) for report in backend.reports] == [fits]


@torch.no_grad()
def test_a_tensor_scale_that_is_written_in_between(monkeypatch):
    """Where a tensor is read matters: the call may not move over what writes to it."""
    monkeypatch.setattr(operator_support, "tensor_scale", lambda: operator_support.NUMBER)

    class Writes(WithTensor):
        def forward(self, x):
            z = self.linear(x)
            self.scale.add_(1)
            return z + self.scale * torch.sigmoid(z)

    report = fusedops.fuse(Writes(torch.tensor(1.0))).report
    assert not report.replaced and "written in place between z and y: add_" in str(report)
    graph = torch.fx.symbolic_trace(WithTensor(torch.tensor(1.0)))
    found = match.find(graph.graph, graph)
    assert found.matches[0].scale_is_a_tensor()


def test_modes_between_z_and_y_are_seen():
    class NoGrad(Layer):
        def forward(self, x):
            z = self.linear(x)
            with torch.no_grad():
                term = torch.sigmoid(z)
            return z + term

    class Autocast(Layer):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                z = self.linear(x)
            return gate(z)

    x = torch.randn(5, K)
    for model in (NoGrad(), Autocast()):
        call, backend = compiled(model, fullgraph=True)
        expected = model(x)
        y = call(x)
        torch.testing.assert_close(y, expected)
        assert "a mode changes between z and y" in str(backend.reports[0])
        y.sum().backward()


@torch.no_grad()
def test_graphs_inside_graphs():
    class Checkpointed(Layer):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    model, x = Checkpointed(), torch.randn(5, K)
    call, backend = compiled(model, "aot_eager", fullgraph=True)
    torch.testing.assert_close(call(x), model(x))
    assert len(backend.reports[0].replaced) == 1


@torch.no_grad()
def test_functions_and_weights_that_are_arguments():
    def function(x, weight):
        return gate(nn.functional.linear(x, weight))

    x, weight = torch.randn(5, K), torch.randn(3, K)
    call, backend = compiled(function, fullgraph=True)
    torch.testing.assert_close(call(x, weight), function(x, weight))
    torch.testing.assert_close(call(x, weight[0]), function(x, weight[0]))
    torch.testing.assert_close(call(x.long(), weight.long()), function(x.long(), weight.long()))
    assert [len(report.replaced) for report in backend.reports] == [1, 0, 0]
    assert "the weight has 1 dimensions" in str(backend.reports[1])
    assert "the weight is int64" in str(backend.reports[2])


@torch.no_grad()
def test_a_fused_model_compiles_whole_and_exports():
    model, x = Layer(), torch.randn(5, K)
    expected = model(x)
    fusedops.fuse(model)
    torch._dynamo.reset()
    graphs = Graphs()
    call = torch.compile(model, backend=graphs, fullgraph=True)
    torch.testing.assert_close(call(x), expected)
    assert graphs.fused() == [1]
    model.scale = 3.0
    torch.testing.assert_close(call(x), Layer.forward(model, x))
    program = torch.export.export(model, (x,))
    torch.testing.assert_close(program.module()(x), Layer.forward(model, x))
    model.scale = 2.0
    model(x)
    program = torch.export.export(model, (x,))
    assert "gemm_sig_res" in str(program.graph) and "sigmoid" not in str(program.graph)


@torch.no_grad()
def test_an_unpickled_model_compiles_at_once():
    model, x = fusedops.fuse(Layer()).model, torch.randn(5, K)
    model = pickle.loads(pickle.dumps(model))
    torch._dynamo.reset()
    graphs = Graphs()
    torch.compile(model, backend=graphs, fullgraph=True)(x)
    assert graphs.fused() == [1]


@torch.no_grad()
def test_an_exported_graph_can_be_rewritten():
    """ATen's overloads are read as PyTorch's functions are."""
    from fusedops.fusion.compile import fuse_graph_module

    model, x = Layer(), torch.randn(5, K)
    graph_module = torch.export.export(model, (x,)).module()
    report = fuse_graph_module(graph_module)
    assert len(report.replaced) == 1 and not report.left
    torch.testing.assert_close(graph_module(x), model(x))
