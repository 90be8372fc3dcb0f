import torch
import triton
import triton.language as tl


from itertools import product

SIZES = (64, 512)  # breach: block-size


@triton.autotune(
    configs=[
        *[triton.Config({"BLOCK": size}, num_warps=4) for size in SIZES],
        *[
            triton.Config({"BLOCK": size}, num_warps=warps)
            for size, warps in [
                (128, 4),
                (48, 8),  # breach: block-size
            ]
        ],
        *[
            triton.Config({"BLOCK": size}, num_warps=warps)
            for warps, size in product(
                (1, 2),
                (96,),  # breach: block-size
            )
        ],
    ],
    key=["n"],
)
@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n), mask=offsets < n)
