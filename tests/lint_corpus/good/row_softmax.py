import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    for at in tl.range(row, n, tl.num_programs(0)):
        columns = tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at * width + columns, mask=columns < width, other=-float("inf"))
        x = tl.exp(x - tl.max(x, axis=0))
        tl.store(y_ptr + at * width + columns, x / tl.sum(x, axis=0), mask=columns < width)
