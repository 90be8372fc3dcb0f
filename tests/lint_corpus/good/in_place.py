import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(x_ptr + offsets, 2.0 * x, mask=offsets < n)


def double_(x):
    kernel[(triton.cdiv(x.numel(), 256),)](x, x.numel(), BLOCK=256)
    return x
