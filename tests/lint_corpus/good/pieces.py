import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, HALF: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, HALF)
    left = tl.load(x_ptr + row * 2 * HALF + columns)
    right = tl.load(x_ptr + row * 2 * HALF + HALF + columns)
    tl.store(y_ptr + row * 2 * HALF + columns, left - right)
    tl.store(y_ptr + row * 2 * HALF + HALF + columns, left + right)


@triton.jit
def descriptors(x, y, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK_M, tl.program_id(1) * BLOCK_N
    left, right = x.load([row, column]).reshape((BLOCK_M, 2, BLOCK_N // 2)).permute(0, 2, 1).split()
    y.store([row, column], left)
    y.store([row, column + BLOCK_N // 2], right)


@triton.jit  # of Triton up to 3.8: tensor descriptors have replaced them
def block_pointers(x_ptr, y_ptr, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    source = tl.make_block_ptr(x_ptr, (m, n), (n, 1), (0, 0), (BLOCK_M, BLOCK_N), (1, 0))
    target = tl.make_block_ptr(y_ptr, (m, n), (n, 1), (0, 0), (BLOCK_M, BLOCK_N), (1, 0))
    for _ in range(0, tl.cdiv(n, BLOCK_N)):
        x = tl.load(source, boundary_check=(0, 1))
        tl.store(target, x, boundary_check=(0, 1))
        source = tl.advance(source, (0, BLOCK_N))
        target = tl.advance(target, (0, BLOCK_N))
