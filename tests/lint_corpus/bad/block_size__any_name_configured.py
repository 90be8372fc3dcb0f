import torch
import triton
import triton.language as tl


@triton.autotune(
    configs=[
        triton.Config({"B": 48}),  # breach: block-size
        triton.Config({"B": 64}),
    ],
    key=["n"],
)
@triton.jit
def kernel(x_ptr, y_ptr, n, B: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)
