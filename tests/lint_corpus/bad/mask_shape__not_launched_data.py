import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_N)
    values = tl.load(x_ptr + rows[:, None] * n + columns[None, :])
    tl.store(y_ptr + columns, tl.sum(values, 0)[:, None])  # breach: mask-shape
