import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, z_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    total = 0.0
    for start in range(0, n, BLOCK):
        x = tl.exp(tl.load(x_ptr + row * n + start + columns, mask=start + columns < n, other=-1e9))
        tl.store(z_ptr + row * n + start + columns, x, mask=start + columns < n)
        total += tl.sum(x, axis=0)
    for start in range(0, n, BLOCK):
        x = tl.load(z_ptr + row * n + start + columns, mask=start + columns < n, other=0.0)  # breach: store-load
        tl.store(y_ptr + row * n + start + columns, x / total, mask=start + columns < n)
