"""Training fused models: the gradients are those of the model as it was written."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusedops

K = 16


def gate(z, scale=1.0):
    return z + scale * torch.sigmoid(z)


class Network(nn.Module):
    """A linear module, a function on parameters, a learned scale, a frozen layer, a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(K, 24)
        self.weight = nn.Parameter(torch.randn(20, 24) / 5)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.frozen = nn.Linear(20, K).requires_grad_(False)
        self.checkpointed = Checkpointed()

    def forward(self, x):
        x = gate(self.first(x), 2.0)
        z = F.linear(x, self.weight)
        x = z + self.scale * torch.sigmoid(z)
        x = gate(self.frozen(x), -1.5)
        return self.checkpointed(x)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(K, 8)

    def forward(self, x):
        return gate(self.linear(x), 0.5)


def gradients(model, x, call=None):
    """Of x and of every parameter that wants one."""
    x = x.clone().requires_grad_()
    wanted = [each for each in model.parameters() if each.requires_grad]
    y = (model if call is None else call)(x)
    return torch.autograd.grad(y.square().sum(), (x, *wanted))


def network():
    torch.manual_seed(0)
    return Network().double(), torch.randn(5, K, dtype=torch.float64)


def test_fused():
    model, x = network()
    expected = gradients(model, x)
    assert len(fusedops.fuse(model).report.replaced) == 4
    torch.testing.assert_close(gradients(model, x), expected)
    with torch.no_grad():
        model.scale.fill_(-0.5)
    plain = fusedops.unfuse(copy.deepcopy(model))
    torch.testing.assert_close(gradients(model, x), gradients(plain, x))


@pytest.mark.parametrize("inner", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(inner, dynamic):
    torch._dynamo.reset()
    model, x = network()
    backend = fusedops.FusingBackend(inner)
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=dynamic)
    for rows in (5, 3):
        some = x[:rows]
        torch.testing.assert_close(gradients(model, some, compiled), gradients(model, some))
    assert all(len(report.replaced) == 4 for report in backend.reports)


def test_training_goes_the_same_way():
    model, x = network()
    target = torch.randn(5, 8, dtype=torch.float64)
    losses = []
    for each in (copy.deepcopy(model), fusedops.fuse(copy.deepcopy(model)).model):
        optimizer = torch.optim.AdamW(each.parameters(), lr=1e-2)
        losses.append([])
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.mse_loss(each(x), target)
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] < losses[0][0] / 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
