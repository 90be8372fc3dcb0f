import torch
import triton
import triton.language as tl


@triton.jit
def tile(pointer, rows, columns, stride):
    return pointer + rows[:, None] * stride + columns[None, :]


@triton.jit
def inside(rows, columns, m, n):
    return (rows < m)[:, None] & (columns < n)[None, :]


@triton.jit
def apply(values, FUNCTION: tl.constexpr):
    return FUNCTION(values)


@triton.jit
def sigmoid(values):
    return 1.0 / (1.0 + tl.exp(-values))


@triton.jit
def kernel(x_ptr, y_ptr, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = inside(rows, columns, m, n)
    x = tl.load(tile(x_ptr, rows, columns, n), mask=mask, other=0.0)
    tl.store(tile(y_ptr, rows, columns, n), apply(x, sigmoid), mask=mask)
