import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, z_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(z_ptr + offsets, x + 1.0, mask=offsets < n)
    z = tl.load(z_ptr + offsets, mask=offsets < n, other=0.0)  # breach: store-load
    tl.store(y_ptr + offsets, z * z, mask=offsets < n)
