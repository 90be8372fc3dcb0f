"""Tensors for a case: inputs amid NaNs, an output amid canaries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fusedops.verify import data
from fusedops.verify.case import Case
from fusedops.verify.layouts import strides

GUARD = 512
"""Elements around every operand: a multiple of 16 bytes in every dtype. A guard of 0 makes the
allocation end where the operand does, which is what compute-sanitizer can see."""

_SPECIALS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_DRAW = {"normal": data.normal, "positive": data.positive, "integers": data.integers}
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_CANARIES = {
    torch.float16: 0x7DA5,
    torch.bfloat16: 0x7FA5,
    torch.float32: 0x7FA5A5A5,
    torch.float64: 0x7FF5A5A5A5A5A5A5,
}
"""Signalling NaNs, which no arithmetic returns."""


@dataclass(frozen=True, slots=True)
class Input:
    """An operand, the buffer it lies in, and a copy of that buffer."""

    tensor: torch.Tensor
    buffer: torch.Tensor
    before: torch.Tensor

    def unchanged(self) -> torch.Tensor:
        return (as_integers(self.buffer) == as_integers(self.before)).all()


@dataclass(frozen=True, slots=True)
class Operands:
    """The inputs of a case."""

    inputs: tuple[Input, ...]

    @property
    def x(self) -> torch.Tensor:
        return self.inputs[0].tensor

    @property
    def weight(self) -> torch.Tensor:
        return self.inputs[1].tensor

    @property
    def bias(self) -> torch.Tensor | None:
        return self.inputs[2].tensor if len(self.inputs) > 2 else None

    def unchanged(self) -> torch.Tensor:
        return torch.stack([each.unchanged() for each in self.inputs]).all()


@dataclass(frozen=True, slots=True)
class Output:
    """A poisoned output amid canaries of the same bits."""

    tensor: torch.Tensor
    buffer: torch.Tensor
    guard: int

    @classmethod
    def poisoned(cls, case: Case, device: torch.device, guard: int = GUARD) -> Output:
        size = case.m * case.n
        bits = torch.full(
            (size + 2 * guard,),
            _CANARIES[case.torch_dtype],
            dtype=_INTEGERS[case.torch_dtype.itemsize],
            device=device,
        )
        buffer = bits.view(case.torch_dtype)
        tensor = buffer[guard : guard + size].view(*case.rows_of_x, case.n)
        return cls(tensor, buffer, guard)

    def canaries_intact(self) -> torch.Tensor:
        bits = as_integers(self.buffer)
        canary = _CANARIES[self.buffer.dtype]
        before, after = bits[: self.guard], bits[len(bits) - self.guard :]
        return ((before == canary) & (after == canary)).all()

    def unwritten(self) -> torch.Tensor:
        return as_integers(self.tensor) == _CANARIES[self.buffer.dtype]


def as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """The bits: NaNs compare."""
    return tensor.view(_INTEGERS[tensor.dtype.itemsize])


def build(case: Case, device: torch.device, guard: int = GUARD) -> Operands:
    """The inputs of the case, on the device: the same values on every device."""
    dtype = case.torch_dtype
    shrink = 1.0 if case.data == "integers" else 1 / math.sqrt(max(case.k, 1))
    magnitude = 1.0 if case.data == "integers" else case.magnitude
    rows = 1 if case.x == "expanded" else case.m
    columns = 1 if case.weight == "expanded" else case.n
    x = _values(case, "x", (rows, case.k), magnitude, device)
    weight = _values(case, "weight", (columns, case.k), shrink, device)
    inputs = [
        _spread_x(case, _matrix(x.to(dtype), case.x, case.m, case.x_offset, guard)),
        _matrix(weight.to(dtype), case.weight, case.n, case.weight_offset, guard),
    ]
    if case.bias_dtype is not None:
        bias = _values(case, "bias", (case.n,), magnitude, device).to(case.bias_dtype)
        inputs.append(_place(bias, (case.bias_step,), case.bias_offset, guard))
    return Operands(tuple(inputs))


def _values(
    case: Case, operand: str, shape: tuple[int, ...], factor: float, device: torch.device
) -> torch.Tensor:
    stream = ("x", "weight", "bias").index(operand)
    values = _DRAW[case.data](case.seed, stream, shape, device) * factor
    if values.numel():
        for index, special in enumerate(case.specials):
            value, _, where = special.partition("@")
            if where == operand:
                at = data.place(case.seed, 100 + index, values.numel())
                values.view(-1)[at] = _SPECIALS[value]
    return values


def _matrix(values: torch.Tensor, layout: str, rows: int, offset: int, guard: int) -> Input:
    placed = _place(values, strides(layout, *values.shape), offset, guard)
    if layout != "expanded":
        return placed
    return Input(placed.tensor.expand(rows, -1), placed.buffer, placed.before)


def _place(values: torch.Tensor, steps: tuple[int, ...], offset: int, guard: int) -> Input:
    """Copy the values into a buffer of NaNs, at these strides, off an aligned address."""
    last = sum((size - 1) * step for size, step in zip(values.shape, steps, strict=True))
    buffer = values.new_full((2 * guard + offset + max(last, 0) + 1,), math.nan)
    tensor = buffer.as_strided(values.shape, steps, guard + offset)
    tensor.copy_(values)
    return Input(tensor, buffer, buffer.clone())


def _spread_x(case: Case, x: Input) -> Input:
    """Give x its leading dimensions."""
    if case.x == "permuted" and case.batch > 0:
        outer = case.m // case.batch
        tensor = x.tensor.unflatten(0, (outer, case.batch)).transpose(0, 1)
    elif case.batch < 0:
        tensor = x.tensor[0]
    elif case.batch > 0:
        tensor = x.tensor.unflatten(0, (case.batch, case.m // case.batch))
    else:
        return x
    return Input(tensor, x.buffer, x.before)
