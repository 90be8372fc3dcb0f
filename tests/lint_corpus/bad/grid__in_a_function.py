import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


def run(x):
    y = torch.empty_like(x)
    n = x.numel()

    def grid(meta):
        return (1, n // meta["BLOCK"])  # breach: grid

    kernel[grid](x, y, n, BLOCK=128)
    return y
