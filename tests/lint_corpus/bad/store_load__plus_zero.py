import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, 1.0, mask=offsets < n)
    again = tl.load(0 + x_ptr + offsets + 0, mask=offsets < n)  # breach: store-load
    tl.store(y_ptr + offsets, again, mask=offsets < n)
