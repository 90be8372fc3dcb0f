import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


def cdiv(a, b):
    return (a + b - 1) // b


def whole(n):
    return (n // 64,)


def grid_of(n):
    return (cdiv(n, 64),)


def run(x, y, n):
    kernel[grid_of(n)](x, y, n, BLOCK=64)
    kernel.run(x, y, n, BLOCK=64, grid=grid_of(n), warmup=False)


def run_whole(x, y, n):
    assert n % 64 == 0, "whole blocks"
    kernel[whole(n)](x, y, n, BLOCK=64)
