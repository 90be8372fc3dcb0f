import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_N)
    places = rows[:, None] * n + columns[None, :]
    values = tl.load(x_ptr + places, mask=columns < n, other=0.0)  # breach: mask-shape
    tl.store(y_ptr + places, values, mask=(rows < m)[:, None] & (columns < n)[None, :])
