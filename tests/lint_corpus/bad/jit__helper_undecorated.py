import torch
import triton
import triton.language as tl


def offsets_of(block):  # breach: jit
    return tl.program_id(0) * block + tl.arange(0, block)


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = offsets_of(BLOCK)  # breach: jit
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


def run(x):
    y = torch.empty_like(x)
    n = x.numel()
    kernel[(triton.cdiv(n, 128),)](x, y, n, BLOCK=128)
    return y
