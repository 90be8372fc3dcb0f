import torch
import triton
import triton.language as tl


@triton.jit
def tile(pointer, rows, columns, stride, mask):
    return tl.load(pointer + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0)  # breach: mask-shape


@triton.jit
def kernel(x_ptr, y_ptr, m, n, stride, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    places = rows[:, None] * stride + columns[None, :]
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    x = tile(x_ptr, rows, columns, stride, rows < m)
    tl.store(y_ptr + places, x, mask=inside)
