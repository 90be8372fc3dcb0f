import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


def grid_of(n):
    return (n // 64,)  # breach: grid


def blocks(n):
    return n // 64  # not a grid of its own


def run(x, y, n):
    kernel[grid_of(n)](x, y, n, BLOCK=64)
    kernel[(blocks(n),)](x, y, n, BLOCK=64)  # breach: grid
