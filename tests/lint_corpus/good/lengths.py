import torch
import triton
import triton.language as tl


SIZES = [64, 128]


@triton.autotune(configs=[triton.Config({"B": size}) for size in SIZES], key=["n"])
@triton.jit
def pairs(x_ptr, y_ptr, n, B: tl.constexpr):
    lanes = tl.arange(0, 2)
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    places = offsets[:, None] * 2 + lanes[None, :]
    inside = (offsets < n)[:, None]
    tl.store(y_ptr + places, tl.load(x_ptr + places, mask=inside), mask=inside)


@triton.jit
def one(x_ptr, y_ptr):
    place = tl.arange(0, 1)
    tl.store(y_ptr + place, tl.load(x_ptr + place))


def run(x, y, n, block=None, lanes=8):
    block = block or 8 * lanes
    pairs[(triton.cdiv(n, block),)](x, y, n, B=block)


@triton.jit
def copy(x_ptr, y_ptr, n, B: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)


def run_at_least(x, y, n, block=8):
    block = max(block, 16)
    copy[(triton.cdiv(n, block),)](x, y, n, B=block)
