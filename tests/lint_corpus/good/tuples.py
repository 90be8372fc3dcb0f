import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, z_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pointers = (x_ptr, y_ptr)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in tl.static_range(2):
        total += tl.load(pointers[i] + offsets, mask=offsets < n, other=0.0)
    lengths = total.shape[0]
    tl.store(z_ptr + offsets, total, mask=offsets < n)
