import torch
import triton
import triton.language as tl


@triton.jit
def square(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x * x, mask=offsets < n)


@triton.jit
def add_one(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x + 1.0, mask=offsets < n)


def run(x):
    n = x.numel()
    squared = torch.empty_like(x)
    y = torch.empty_like(x)
    grid = (triton.cdiv(n, 128),)
    square[grid](x, squared, n, BLOCK=128)  # breach: store-count
    add_one[grid](squared, y, n, BLOCK=128)
    return y
