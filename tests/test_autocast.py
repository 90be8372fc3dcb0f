"""Autocast: the active dtype, whatever it is, and gradients of float32 master weights."""

from __future__ import annotations

import pytest
import torch

import fusedops
from fusedops.numerics import error_over_bound
from fusedops.registry import Accumulation

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HALVES = [torch.float16, torch.bfloat16]
RAW = torch.ops.fusedops.gemm_sig_res


def operands(device, dtype=torch.float32, m=32, n=16, k=24):
    generator = torch.Generator().manual_seed(9)
    shapes = ((m, k), (n, k), (n,))
    return [torch.randn(each, generator=generator).to(device, dtype) for each in shapes]


def plain(x, weight, bias, scale):
    z = torch.nn.functional.linear(x, weight, bias)
    return z + scale * torch.sigmoid(z)


@pytest.mark.supports("autocast follows the active dtype, and rounds once: a float32 bias stays it")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
def test_the_active_dtype(device, dtype):
    x, weight, bias = operands(device)
    forced = torch.ops.fusedops.gemm_sig_res_on
    scale = torch.tensor(2.0, device=device)
    with torch.autocast(device, dtype=dtype):
        results = (
            fusedops.gemm_sig_res(x, weight, bias, 2.0),
            fusedops.gemm_sig_res(x.to(dtype), weight, bias, scale),
            fusedops.gemm_sig_res(x, weight, bias, 2.0, backend="reference"),
            RAW(x, weight, bias=bias, scale=2.0),
            forced(x, weight.half(), bias, scale, "reference"),
        )
    low = x.to(dtype), weight.to(dtype), bias
    for y in results[:4]:
        assert y.dtype == dtype
        assert error_over_bound(y, *low, 2.0, Accumulation(2.0**-24, 1 / 8)).max() <= 1
    assert results[4].dtype == dtype
    with torch.autocast(device, dtype=dtype):
        y = fusedops.gemm_sig_res(x, weight, bias.half(), 2.0)
    assert y.dtype == dtype


@pytest.mark.supports("nested and disabled autocast; the other device's; float64 untouched")
@pytest.mark.parametrize("device", DEVICES)
def test_where_autocast_is_not(device):
    x, weight, bias = operands(device)
    other = {"cpu": "cuda", "cuda": "cpu"}[device]
    double = [each.double() for each in (x, weight, bias)]
    with torch.autocast(device, dtype=torch.bfloat16):
        with torch.autocast(device, enabled=False):
            assert fusedops.gemm_sig_res(x, weight, bias, 2.0).dtype == torch.float32
        with torch.autocast(device, dtype=torch.float16):
            assert fusedops.gemm_sig_res(x, weight, bias, 2.0).dtype == torch.float16
        assert fusedops.gemm_sig_res(x, weight, bias, 2.0).dtype == torch.bfloat16
        y = fusedops.gemm_sig_res(*double, 2.0)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, plain(*double, 2.0))
    if other == "cpu" or torch.cuda.is_available():
        with torch.autocast(other, dtype=torch.bfloat16):
            assert fusedops.gemm_sig_res(x, weight, bias, 2.0).dtype == torch.float32
    assert fusedops.gemm_sig_res(x, weight, bias, 2.0).dtype == torch.float32


@pytest.mark.supports("float32 master weights under autocast: float32 gradients of every parameter")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scale", [2.0, 20.0, "learned"])
def test_master_weights(device, dtype, scale):
    torch.manual_seed(0)
    learned = torch.nn.Parameter(torch.tensor(2.0)) if scale == "learned" else scale
    layer = fusedops.GemmSigRes(24, 16, learned).to(device)
    x = operands(device)[0].requires_grad_()
    with torch.autocast(device, dtype=dtype):
        y = layer(x)
        loss = y.float().pow(2).mean()
    loss.backward()
    wide = [each.detach().double().requires_grad_() for each in (x, *layer.parameters())]
    names = [name for name, _ in layer.named_parameters()]
    by_name = dict(zip(["x", *names], wide, strict=True))
    number = by_name.get("scale", scale)
    expected = plain(by_name["x"], by_name["weight"], by_name["bias"], number).pow(2).mean()
    expected.backward()
    for name, got in (("x", x), *layer.named_parameters()):
        assert got.grad.dtype == torch.float32
        want = by_name[name].grad
        error = (got.grad.double() - want).abs().max() / want.abs().max()
        assert error <= 8 * torch.finfo(dtype).eps, name


@pytest.mark.supports("training with autocast, a gradient scaler and accumulation, as nn.Linear's")
@pytest.mark.parametrize("device", DEVICES)
def test_training_with_a_gradient_scaler(device):
    losses = []
    for fused in (True, False):
        torch.manual_seed(0)
        linear = torch.nn.Linear(24, 16, device=device)
        layer = fusedops.GemmSigRes.from_linear(linear, 1.5) if fused else linear
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler(device, init_scale=2.0**8)
        x = operands(device, m=64)[0]
        target = x[:, :16].tanh()
        for _ in range(10):
            optimizer.zero_grad()
            for part, wanted in zip(x.chunk(2), target.chunk(2), strict=True):
                with torch.autocast(device, dtype=torch.float16):
                    y = layer(part)
                    y = y if fused else y + 1.5 * torch.sigmoid(y)
                    loss = (y.float() - wanted).pow(2).mean()
                scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        losses.append(loss.detach())
    torch.testing.assert_close(*losses, rtol=1e-2, atol=1e-3)
