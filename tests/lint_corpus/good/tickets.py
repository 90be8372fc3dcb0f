import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, counter_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    last = tl.atomic_add(counter_ptr, 1) == tl.num_programs(0) - 1
    if last:
        tl.store(counter_ptr, 0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)
