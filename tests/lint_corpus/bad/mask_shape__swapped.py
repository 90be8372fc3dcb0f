import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, m, n, stride, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    places = rows[:, None] * stride + columns[None, :]
    inside = (rows < m)[:, None] & (columns < n)[None, :]
    x = tl.load(x_ptr + places, mask=inside, other=0.0)
    turned = (columns < n)[:, None] & (rows < m)[None, :]
    tl.store(y_ptr + places, x, mask=turned)  # breach: mask-shape
