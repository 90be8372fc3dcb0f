import torch
import triton
import triton.language as tl


BLOCK_SIZE: tl.constexpr = 512  # breach: block-size


@triton.jit
def kernel(x_ptr, y_ptr, n):
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


def run(x):
    y = torch.empty_like(x)
    n = x.numel()
    kernel[(triton.cdiv(n, 512),)](x, y, n)
    return y
