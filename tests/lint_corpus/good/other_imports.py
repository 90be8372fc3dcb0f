import triton
from triton import cdiv, jit
from triton import language as lang
from triton.language import arange, load, program_id, store


@jit
def kernel(x_ptr, y_ptr, n, BLOCK: lang.constexpr):
    offsets = program_id(0) * BLOCK + arange(0, BLOCK)
    store(y_ptr + offsets, load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


def run(x, y, n):
    kernel[(cdiv(n, 64),)](x, y, n, BLOCK=64)
    return triton.cdiv(n, 64)
