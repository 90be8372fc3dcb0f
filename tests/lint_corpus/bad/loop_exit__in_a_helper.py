import torch
import triton
import triton.language as tl


@triton.jit
def summed(pointers, n, BLOCK: tl.constexpr):
    total = 0.0
    for start in range(0, n, BLOCK):
        total += tl.sum(tl.load(pointers + start))
        if total > 1e30:
            return total  # breach: loop-exit
    return total


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = summed(x_ptr + row * n + tl.arange(0, BLOCK), n, BLOCK)
    tl.store(y_ptr + row, total)
