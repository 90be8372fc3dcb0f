import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


def rounded_up(x, y, n):
    kernel[((n + 127) // 128,)](x, y, n, BLOCK=128)


def at_least_one(x, y, n):
    kernel[(max(1, n // 128),)](x, y, n, BLOCK=128)


def negated(x, y, n, block):
    kernel[(-(-n // block),)](x, y, n, BLOCK=block)


def by_hand(x, y, n, block):
    kernel[((n + block - 1) // block,)](x, y, n, BLOCK=block)


def asserted(x, y, n):
    assert n % 128 == 0, "whole blocks"
    kernel[(n // 128,)](x, y, n, BLOCK=128)


def persistent(x, y, n, processors):
    kernel[(min(processors, triton.cdiv(n, 128)),)](x, y, n, BLOCK=128)


def by_a_function(x, y, n):
    def grid(meta):
        return (triton.cdiv(n, meta["BLOCK"]),)

    kernel[grid](x, y, n, BLOCK=128)


def looked_up(handlers, x):
    return handlers[x // 2](x)
