"""What ours is measured against."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch

from fusedops.bench.workload import SCALE, eager

Op = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""``op(x, weight, bias)``: something to time."""

FUNCTIONS = ("gemm_sig_res", "fused_gemm_sigmoid_scale_residual")
"""Of (x, weight, bias, scale), in a file to be timed; the second is what ``export`` writes."""

SEED = Path(__file__).parents[2] / "benchmarks" / "seed_kernel.py"


class Absent(Exception):
    """The peer cannot run here; the message says why."""


@dataclass(frozen=True)
class Peer:
    """Something to compare with.

    prepare: makes its op, or raises Absent.
    whole: it computes the whole operator, so that its error is worth reporting.
    """

    name: str
    prepare: Callable[[torch.device, torch.dtype], Op]
    whole: bool = True


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, weight)


def _always(op: Op, device: torch.device, dtype: torch.dtype) -> Op:
    return op


def _compiled(mode: str | None, device: torch.device, dtype: torch.dtype) -> Op:
    op: Op = torch.compile(eager, mode=mode, dynamic=False)
    return op


def _quack(device: torch.device, dtype: torch.dtype) -> Op:
    if find_spec("quack") is None:
        raise Absent("quack-kernels is not installed: pip install 'quack-kernels>=0.6.5'")
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        raise Absent("it multiplies float16 and bfloat16 on CUDA cards")
    try:
        from fusedops.bench import quack_peer
    except Exception as error:  # of another version, or of a CuTe that it does not know
        raise Absent(f"quack-kernels cannot be used here, 0.6.5 is known to: {error}") from None
    return quack_peer.run


@cache  # a file's autotuner remembers what it tuned
def _file(path: Path, device: torch.device, dtype: torch.dtype) -> Op:
    """The operator that a Python file defines, by one of its FUNCTIONS."""
    if not path.exists():
        raise Absent(f"there is no {path}")
    try:
        names = runpy.run_path(str(path))
    except Exception as error:  # whatever a file may do
        raise Absent(f"{path} cannot be run: {type(error).__name__}: {error}") from None
    function = next((names[name] for name in FUNCTIONS if name in names), None)
    if function is None:
        raise Absent(f"{path} defines no {' or '.join(FUNCTIONS)}(x, weight, bias, scale)")
    return lambda x, weight, bias: function(x, weight, bias, SCALE)


def _seed(device: torch.device, dtype: torch.dtype) -> Op:
    if not SEED.exists():
        raise Absent("it is a file of the repository, benchmarks/seed_kernel.py")
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        raise Absent("it takes float16 and bfloat16 on CUDA cards")
    if find_spec("triton") is None:
        raise Absent("Triton is not installed")
    return _file(SEED, device, dtype)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("mm", partial(_always, linear), whole=False),
        Peer("eager", partial(_always, eager)),
        Peer("compile", partial(_compiled, None)),
        Peer("compile-max", partial(_compiled, "max-autotune-no-cudagraphs")),
        Peer("quack", _quack),
        Peer("seed", _seed),
    )
}
"""What each is: docs/performance.md."""
DEFAULT = ("mm", "eager", "compile", "quack", "seed")


def beside(path: Path) -> Peer:
    """A file's kernel as a peer, under the file's name."""
    return Peer(path.stem, partial(_file, path))
