import torch
import triton
import triton.language as tl


def plain(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(y_ptr + offsets, x, mask=offsets < n)


kernel = triton.jit(plain)
tuned = triton.autotune(configs=[triton.Config({"BLOCK": 128})], key=["n"])(kernel)


def run(x, y, n):
    kernel[(triton.cdiv(n, 128),)](x, y, n, BLOCK=128)
