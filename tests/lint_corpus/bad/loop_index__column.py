import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + rows[:, None] * BLOCK + columns[None, :], mask=rows[:, None] < n, other=0.0)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in range(BLOCK):
        total += x[:, i]  # breach: loop-index
    tl.store(y_ptr + rows, total, mask=rows < n)
