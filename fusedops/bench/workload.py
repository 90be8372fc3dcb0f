"""What is timed: the shapes, the operands, and the operator as a PyTorch user writes it."""

from __future__ import annotations

import torch

Shape = tuple[int, int, int]

SCALE = 2.0

GRID: tuple[Shape, ...] = (
    *((1024, 8192, 8192), (8192, 8192, 8192), (4096, 4096, 4096), (2048, 2048, 2048)),
    *((1024, 1024, 1024), (16384, 4096, 4096), (65536, 1024, 1024), (512, 4096, 4096)),
    *((128, 4096, 4096), (16, 4096, 4096), (4096, 14336, 4096), (4096, 1024, 512)),
    *((2048, 5120, 13824), (3072, 3072, 12288), (777, 4096, 4096), (4096, 11008, 4096)),
    (8192, 1024, 8192),
)
SMALL_M: tuple[Shape, ...] = (
    *((1, 4096, 4096), (16, 4096, 4096), (16, 1024, 8192), (8, 4096, 14336)),
    *((1, 14336, 4096), (32, 14336, 4096), (4, 8192, 8192), (64, 8192, 8192)),
)
FOR_A_CPU: tuple[Shape, ...] = (
    *((1024, 1024, 1024), (4096, 1024, 256), (16, 4096, 1024), (65536, 128, 64), (16, 64, 64)),
)
HOST: Shape = (16, 64, 64)
"""Too small for the card to matter."""


def shape_name(shape: Shape) -> str:
    return "x".join(map(str, shape))


def operands(
    shape: Shape, dtype: torch.dtype, where: torch.device, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normal x, weight scaled by 1/sqrt(K) so that z is of order one, and a normal bias."""
    m, n, k = shape
    generator = torch.Generator(where).manual_seed(seed)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator, device=where, dtype=torch.float32)

    weight = normal(n, k) / max(k, 1) ** 0.5
    return normal(m, k).to(dtype), weight.to(dtype), normal(n).to(dtype)


def eager(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The operator as a PyTorch user writes it."""
    z = torch.nn.functional.linear(x, weight, bias)
    return z + SCALE * torch.sigmoid(z)
