import torch
import triton
import triton.language as tl


@triton.jit
def get(pointer, offsets, n):
    return tl.load(pointer + offsets, mask=offsets < n, other=0.0)  # breach: store-load


@triton.jit
def kernel(x_ptr, z_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(z_ptr + offsets, x, mask=offsets < n)
    z = get(z_ptr, offsets, n)
    tl.store(y_ptr + offsets, z, mask=offsets < n)
