import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in tl.range(0, n, BLOCK):
        if start == 0:
            continue  # breach: loop-exit
        total += tl.load(x_ptr + row * n + start + columns, mask=start + columns < n, other=0.0)
    tl.store(y_ptr + row * BLOCK + columns, total)
