"""The contract in a few lines of torch: the reference backend, and the documentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F

LARGEST_Y = 128.0
"""Beyond it y is z plus 0 or scale, and its slope 1, to the last bit: for any scale of which z is
recovered from y."""


def gemm_sig_res(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
) -> torch.Tensor:
    """y = z + scale * sigmoid(z), z = x @ weight.T + bias, in at least fp32, rounded once."""
    return with_z(x, weight, bias, scale)[0]


def with_z(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, and the z it was computed from, each rounded once.

    All may have leading dimensions of a batch, weight (..., N, K) and scale (..., 1, 1).
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    if weight.dim() == 2:
        z = F.linear(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide))
    else:
        z = x.to(wide) @ weight.to(wide).mT
        z = z if bias is None else z + bias
    scale = scale.to(wide) if isinstance(scale, torch.Tensor) else scale
    y = z + scale * torch.sigmoid(z)
    return y.to(x.dtype), z.to(x.dtype)


def sigmoid_and_slope(
    z: torch.Tensor, scale: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sigmoid(z), and dy/dz = 1 + scale * sigmoid(z) * (1 - sigmoid(z))."""
    sigmoid = torch.sigmoid(z)
    return sigmoid, 1 + scale * (sigmoid - sigmoid * sigmoid)


def slope_from_y(y: torch.Tensor, scale: float, steps: int) -> torch.Tensor:
    """dy/dz where only y is known, for a scale that ``recovery_steps`` admits.

    The last of the steps that would find z moves the slope and its derivatives instead.
    """
    y = y.clamp(-LARGEST_Y, LARGEST_Y)
    z = _first_guess(y, scale)
    for _ in range(steps - 1):
        z = z + _step(z, y, scale)[0]
    move, first, second = _step(z, y, scale)
    third = first * (1 - 6 * first)
    return 1 + scale * (first + move * (second + 0.5 * move * third))


def z_from_y(y: torch.Tensor, scale: float, steps: int) -> torch.Tensor:
    """z where only y is known, for a scale that ``recovery_steps`` admits."""
    near = y.clamp(-LARGEST_Y, LARGEST_Y)
    z = _first_guess(near, scale)
    for _ in range(steps):
        z = z + _step(z, near, scale)[0]
    return z + (y - near).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _first_guess(y: torch.Tensor, scale: float) -> torch.Tensor:
    """Exact far out, and at z = 0 in value and slope."""
    return y - scale * torch.sigmoid((y - 0.5 * scale) / (1 + 0.25 * scale))


def _step(
    z: torch.Tensor, y: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Householder's third-order step on z + scale * sigmoid(z) - y, and sigmoid's derivatives."""
    sigmoid = torch.sigmoid(z)
    first = sigmoid - sigmoid * sigmoid
    second = first * (1 - 2 * sigmoid)
    slope = 1 + scale * first
    newton = (z - y + scale * sigmoid) / slope
    return -newton * (1 + 0.5 * newton * scale * second / slope), first, second


def backward(
    grad: torch.Tensor, saved: torch.Tensor, scale: float | torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """dz = grad * dy/dz, from y in so many steps or, for 0, from z; and sigmoid(z), from z alone.

    Both in at least fp32, unrounded.
    """
    wide = torch.promote_types(grad.dtype, torch.float32)
    grad, saved = grad.to(wide), saved.to(wide)
    if steps:
        assert isinstance(scale, (int, float))
        return grad * slope_from_y(saved, scale, steps), None
    scale = scale.to(wide) if isinstance(scale, torch.Tensor) else scale
    sigmoid, slope = sigmoid_and_slope(saved, scale)
    return grad * slope, sigmoid
