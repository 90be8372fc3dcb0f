import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    total = 0.0
    i = 0
    while i < BLOCK:
        last = BLOCK - 1 - i
        total += x[last]  # breach: loop-index
        i += 1
    tl.store(y_ptr + tl.program_id(0), total)
