"""Pseudo-random data from a seed: integer arithmetic, so that every device draws the same bits.

PyTorch's own generators differ between a CPU and a card, and between cards.
"""

from __future__ import annotations

import math

import torch

_WORD = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_UNIT_VARIANCE = math.sqrt(3) / 65536


def place(seed: int, stream: int, count: int) -> int:
    """A number below ``count`` (SplitMix64, on the host)."""
    bits = (_start(seed, stream) + _STEP) & _WORD
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        bits = ((bits ^ (bits >> shift)) * multiplier) & _WORD
    return bits % count


def normal(seed: int, stream: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The sum of four uniform numbers, centred, with variance one: float64, within 3.5."""
    bits = _bits(seed, stream, math.prod(shape), device)
    total = _chunk(bits, 0)
    for index in range(1, 4):
        total = total + _chunk(bits, index)
    return ((total - 2 * 65535).double() * _UNIT_VARIANCE).view(shape)


def positive(seed: int, stream: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Uniform over [0, 1): the data on which truncation errors never cancel."""
    bits = _bits(seed, stream, math.prod(shape), device)
    return (_logical_shift(bits, 11).double() * 2.0**-53).view(shape)


def integers(seed: int, stream: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Integers from -4 to 4: sums of their products are exact in every accumulator."""
    bits = _bits(seed, stream, math.prod(shape), device)
    return (_logical_shift(bits, 33) % 9 - 4).double().view(shape)


def _start(seed: int, stream: int) -> int:
    return (seed * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) & _WORD


def _bits(seed: int, stream: int, count: int, device: torch.device) -> torch.Tensor:
    bits = torch.arange(1, count + 1, device=device) * _signed(_STEP)
    bits += _signed(_start(seed, stream))
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        bits ^= _logical_shift(bits, shift)
        bits *= _signed(multiplier)
    return bits


def _chunk(bits: torch.Tensor, index: int) -> torch.Tensor:
    return (bits >> (16 * index)) & 0xFFFF


def _logical_shift(bits: torch.Tensor, by: int) -> torch.Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
