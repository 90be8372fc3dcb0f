import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, total_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.atomic_add(total_ptr, tl.sum(x, axis=0))
    total = tl.load(total_ptr)  # breach: store-load
    tl.store(y_ptr + offsets, x / total, mask=offsets < n)
