import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n):
    offsets = tl.program_id(0) * 100 + tl.arange(0, 100)  # breach: block-size
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


def run(x):
    y = torch.empty_like(x)
    n = x.numel()
    kernel[(triton.cdiv(n, 100),)](x, y, n)
    return y
