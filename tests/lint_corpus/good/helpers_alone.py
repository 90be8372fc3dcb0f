import torch
import triton
import triton.language as tl


@triton.jit
def put(out, places, values, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    tl.store(out + places, tl.load(values + columns))


@triton.jit
def put_rows(out, rows, values, n, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    mask = (columns < n)[None, :]
    tl.store(out + rows[:, None] * n + columns[None, :], values.to(tl.float16), mask=mask)


@triton.jit
def sums(values, axis: tl.constexpr):
    return tl.sum(values, axis)


@triton.jit
def put_products(out, places, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    tl.store(out + places.to(tl.int64) + columns, rows[:, None] * columns[None, :])


@triton.jit
def put_sums(out, places, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    tl.store(out + places + columns, rows[:, None] + columns[None, :])
    return columns
