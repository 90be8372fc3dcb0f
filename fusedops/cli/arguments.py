"""Arguments that several commands share."""

from __future__ import annotations

import argparse

import torch

from fusedops.checks import DTYPES
from fusedops.registry import dtype_name

Shape = tuple[int, int, int]


def size(text: str) -> int:
    """A size from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a size is a number from 1 up; got {text!r}")
    return int(text)


def shape(text: str) -> Shape:
    """``MxNxK`` -> (m, n, k)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"a shape is MxNxK, as 1024x8192x8192; got {text!r}")
    m, n, k = map(size, parts)
    return m, n, k


def dtype(text: str) -> torch.dtype:
    known = {dtype_name(each): each for each in DTYPES}
    if text not in known:
        raise argparse.ArgumentTypeError(f"known dtypes: {', '.join(known)}; got {text!r}")
    return known[text]


def device(text: str | None) -> torch.device:
    """The named device, or the best this machine has."""
    if text is not None:
        named = torch.device(text)
        if named.type == "cuda" and not torch.cuda.is_available():
            raise SystemExit("there is no CUDA device that PyTorch can use here")
        if named.type == "cuda" and named.index is not None:
            torch.cuda.set_device(named)
        return named
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def operands(
    size: Shape, dtype: torch.dtype, where: torch.device, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normal x, weight scaled by 1/sqrt(K) so that z is of order one, and a normal bias."""
    m, n, k = size
    generator = torch.Generator(where).manual_seed(seed)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator, device=where, dtype=torch.float32)

    weight = normal(n, k) / max(k, 1) ** 0.5
    return normal(m, k).to(dtype), weight.to(dtype), normal(n).to(dtype)
