import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n):
    offsets = tl.program_id(0) * 512 + tl.arange(0, 512)  # breach: block-size
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)
