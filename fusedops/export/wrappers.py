"""The functions between ModelNew and the kernel: operands made fit, the grid, the launch."""

from __future__ import annotations

from dataclasses import dataclass

from fusedops.export.printer import fit
from fusedops.triton_kernels.config import MOST_REDUCTION
from fusedops.triton_kernels.declarations import MOST_TMA_SIZE

VALUES = {
    "x_ptr": "x",
    "weight_ptr": "weight",
    "out_ptr": "out",
    "scale": "float(scaling_factor)",
    "stride_xm": "x.stride(0)",
    "stride_xk": "x.stride(1)",
    "stride_wn": "weight.stride(0)",
    "stride_wk": "weight.stride(1)",
    "stride_om": "out.stride(0)",
}
"""What the wrapper passes for a parameter, where it is not called the same."""


@dataclass(frozen=True)
class Launch:
    """arguments: of the kernel, up to the compile-time keywords. resident: programs a
    multiprocessor has room for, as the grid reads it."""

    kernel: str
    arguments: str
    keywords: str
    resident: str

    @property
    def call(self) -> str:
        given = ", ".join(each for each in (self.arguments, self.keywords) if each)
        return "\n".join(fit(f"{self.kernel}[grid]({given})", " " * 8))


def arguments(names: list[str]) -> str:
    """What the wrapper passes for the kernel's run-time parameters."""
    return ", ".join(VALUES.get(name, name) for name in names)


CHECKED = '''\
def fused_gemm_sigmoid_scale_residual(x, weight, bias, scaling_factor):
    """y = z + scaling_factor * sigmoid(z), where z = x @ weight.T + bias.

    x (M, K), {x};
    weight (N, K), float16 or bfloat16; bias (N,). x and bias are cast to weight's dtype, which the
    result (M, N) has.
    """
    M, K = x.shape
    N = weight.shape[0]
    if weight.shape[1] != K or bias.shape != (N,):
        raise ValueError(f"x {{x.shape}}, weight {{weight.shape}}, bias {{bias.shape}} do not fit")
    if weight.dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"weight must be float16 or bfloat16, not {{weight.dtype}}")
    if {most}:
        raise ValueError(f"({{M}}, {{N}}, {{K}}) is more than the kernel counts in 32 bits")
    x = x.to(weight.dtype)
    bias = bias.to(weight.dtype).contiguous()
'''

TILED = """\
    out = torch.empty((M, N), dtype=weight.dtype, device=x.device)
    if out.numel() == 0:
        return out

    def grid(meta):
        return (triton.cdiv(M, meta["BLOCK_M"]) * triton.cdiv(N, meta["BLOCK_N"]),)

    with torch.cuda.device_of(x):
{call}
    return out
"""

READ_BY_TMA = '''\
def as_tma_reads(matrix):
    """The matrix, or a copy: TMA takes dense rows, zeros up to whole units of 16 bytes included."""
    columns = matrix.shape[1]
    if columns % 8 or columns == 0:
        return nn.functional.pad(matrix, (0, 8 - columns % 8))
    apart = matrix.stride(0) >= columns and matrix.stride(0) % 8 == 0
    if apart and matrix.stride(1) == 1 and matrix.data_ptr() % 16 == 0:
        return matrix
    return matrix.clone(memory_format=torch.contiguous_format)
'''

WORKSPACE = '''\
def workspace(size, alignment, stream):
    """The memory in which a launch keeps its tensor descriptors."""
    return torch.empty(size, dtype=torch.int8, device="cuda")
'''

PERSISTENT = """\
    out = torch.empty((M, triton.cdiv(N, 8) * 8), dtype=weight.dtype, device=x.device)
    if M == 0 or N == 0:
        return out[:, :N].contiguous()
    x, weight = as_tma_reads(x), as_tma_reads(weight)
    K = x.shape[1]
    multiprocessors = 1
    if x.is_cuda:
        multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count

    def grid(meta):
        tiles = triton.cdiv(M, meta["BLOCK_M"]) * triton.cdiv(N, meta["BLOCK_N"])
        return (min(tiles, {programs}),)

    triton.set_allocator(workspace)
    with torch.cuda.device_of(x):
{call}
    return out[:, :N].contiguous()
"""


def tiled(launch: Launch) -> list[str]:
    checked = CHECKED.format(x="any strides", most=f"K > {MOST_REDUCTION}")
    return [checked + TILED.format(call=launch.call)]


def persistent(launch: Launch) -> list[str]:
    body = PERSISTENT.format(
        call=launch.call,
        programs="multiprocessors"
        if launch.resident == "1"
        else f"{launch.resident} * multiprocessors",
    )
    x = "copied unless its rows are dense, at multiples of 16 bytes"
    checked = CHECKED.format(x=x, most=f"max(M, N, K) > {MOST_TMA_SIZE}")
    return [READ_BY_TMA, WORKSPACE, checked + body]
