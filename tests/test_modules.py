"""GemmSigRes, a linear layer."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import fusedops


@torch.no_grad()
def test_it_is_a_linear_layer_and_computes_the_formula():
    torch.manual_seed(0)
    layer = fusedops.GemmSigRes(8, 3, 1.5)
    assert isinstance(layer, nn.Linear)
    x = torch.randn(2, 5, 8)
    z = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), z + 1.5 * torch.sigmoid(z))


@torch.no_grad()
def test_state_moves_to_and_from_linear():
    linear = nn.Linear(8, 3).eval()
    layer = fusedops.GemmSigRes.from_linear(linear, 2.0)
    assert layer.weight is linear.weight and layer.bias is linear.bias
    assert not layer.training
    other = fusedops.GemmSigRes(8, 3, 2.0)
    other.load_state_dict(linear.state_dict())
    x = torch.randn(4, 8)
    assert torch.equal(layer(x), other(x))
    nn.Linear(8, 3).load_state_dict(layer.state_dict())


@torch.no_grad()
def test_without_bias_and_copied():
    layer = fusedops.GemmSigRes.from_linear(nn.Linear(8, 3, bias=False), -1.0, backend="reference")
    assert layer.bias is None
    assert "scale=-1" in repr(layer) and "reference" in repr(layer)
    x = torch.randn(4, 8)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))


def test_an_unknown_backend_is_an_error_at_once():
    with pytest.raises(ValueError, match="known: auto"):
        fusedops.GemmSigRes(8, 3, backend="nothing")
