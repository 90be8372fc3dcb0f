import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, z_ptr, y_ptr, n, BLOCK: tl.constexpr):
    rows = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + rows[:, None] * BLOCK + rows[None, :])
    tl.store(z_ptr + rows[:, None] * BLOCK + rows[None, :], x)
    tl.debug_barrier()
    turned = tl.load(z_ptr + rows[None, :] * BLOCK + rows[:, None])  # breach: store-load
    tl.store(y_ptr + rows[:, None] * BLOCK + rows[None, :], turned)
