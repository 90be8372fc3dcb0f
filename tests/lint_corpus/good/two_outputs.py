import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x_ptr, y_ptr, mean_ptr, scale_ptr, n, BLOCK: tl.constexpr, KEEP_SCALE: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + columns, mask=columns < n, other=0.0)
    mean = tl.sum(x, axis=0) / n
    centred = tl.where(columns < n, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=0) / n + 1e-5)
    tl.store(mean_ptr + row, mean)
    if KEEP_SCALE:
        tl.store(scale_ptr + row, scale)
    tl.store(y_ptr + row * n + columns, centred * scale, mask=columns < n)


class Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        rows, n = x.shape
        y = torch.empty_like(x)
        mean = torch.empty(rows, device=x.device)
        scale = torch.empty(rows, device=x.device)
        kernel[(rows,)](x, y, mean, scale, n, BLOCK=256, KEEP_SCALE=True)
        ctx.save_for_backward(x, mean, scale)
        return y
