import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr, HALF: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if n == 0:
        tl.store(y_ptr + offsets, 0.0, mask=offsets < BLOCK)
        return
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    if HALF:
        tl.store(y_ptr + offsets, x.to(tl.float16), mask=offsets < n)
    else:
        tl.store(y_ptr + offsets, x, mask=offsets < n)
