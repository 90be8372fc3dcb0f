import torch
import triton
import triton.language as tl


@triton.autotune(
    configs=[
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP": 5}, num_warps=4, num_stages=2),
        triton.Config({"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 32, "GROUP": 3}, num_warps=8, num_stages=3),
    ],
    key=["M", "N", "K"],
)
@triton.jit
def gemm(
    a_ptr, b_ptr, bias_ptr, c_ptr, M, N, K, stride_am, stride_bn,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
    HAS_BIAS: tl.constexpr, EVEN_K: tl.constexpr,
):
    pid = tl.program_id(axis=0)
    width = GROUP * tl.cdiv(N, BLOCK_N)
    first = pid // width * GROUP
    height = min(tl.cdiv(M, BLOCK_M) - first, GROUP)
    rows = (first + pid % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (pid % width // height) * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    a_ptrs = a_ptr + (rows % M)[:, None] * stride_am + depth[None, :]
    b_ptrs = b_ptr + depth[:, None] + (columns % N)[None, :] * stride_bn
    z = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BLOCK_K)):
        if EVEN_K:
            a, b = tl.load(a_ptrs), tl.load(b_ptrs)
        else:
            left = K - k * BLOCK_K
            a = tl.load(a_ptrs, mask=depth[None, :] < left, other=0.0)
            b = tl.load(b_ptrs, mask=depth[:, None] < left, other=0.0)
        z = tl.dot(a, b, z)
        a_ptrs += BLOCK_K
        b_ptrs += BLOCK_K
    if HAS_BIAS:
        z += tl.load(bias_ptr + columns, mask=columns < N, other=0.0)[None, :]
    y = z + 1.0 / (1.0 + tl.exp(-z))
    c_ptrs = c_ptr + rows[:, None] * N + columns[None, :]
    tl.store(c_ptrs, y.to(c_ptr.dtype.element_ty), mask=(rows[:, None] < M) & (columns[None, :] < N))


def run(a, b, bias):
    M, K = a.shape
    N = b.shape[0]
    c = torch.empty((M, N), device=a.device, dtype=a.dtype)
    grid = lambda meta: (triton.cdiv(M, meta["BLOCK_M"]) * triton.cdiv(N, meta["BLOCK_N"]),)
    gemm[grid](
        a, b, bias, c, M, N, K, a.stride(0), b.stride(0),
        HAS_BIAS=bias is not None, EVEN_K=K % 64 == 0,
    )
    return c
