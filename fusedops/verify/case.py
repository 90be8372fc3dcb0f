"""One example: everything needed to build it again, on any machine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from fusedops.plans import ALIGNMENT, canonical, device_facts, fp32_precision
from fusedops.registry import Problem
from fusedops.settings import triton_interpreter
from fusedops.verify.layouts import LAYOUTS, strides

BIASES = ("none", "same", "float32")
DATA = ("normal", "positive", "integers")
_ALWAYS_SHOWN = ("m", "n", "k", "dtype")


@dataclass(frozen=True, slots=True)
class Case:
    """A problem, its memory layout and its data.

    Offsets move an operand away from an aligned address, in elements. ``batch`` gives x its leading
    dimensions: 0 for (m, k), b for (b, m / b, k), -1 for (k,), which needs m = 1. ``data`` is drawn
    from ``seed``; ``specials`` such as "nan@x" are then put at places drawn from it as well.
    ``reduced`` sets PyTorch's own switch for the dtype: TF32 for float32, float16 sums for float16.
    """

    m: int
    n: int
    k: int
    dtype: str = "float32"
    bias: str = "none"
    scale: float = 1.0
    x: str = "contiguous"
    weight: str = "contiguous"
    x_offset: int = 0
    weight_offset: int = 0
    bias_offset: int = 0
    bias_step: int = 1
    batch: int = 0
    data: str = "normal"
    magnitude: float = 1.0
    specials: tuple[str, ...] = ()
    reduced: bool = False
    config: int = 0
    seed: int = 0

    def __str__(self) -> str:
        """The text that ``parse`` reads: the sizes, the dtype and whatever is not the default."""
        shown = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ALWAYS_SHOWN or value != field.default:
                text = "+".join(value) if isinstance(value, tuple) else str(value)
                shown.append(f"{field.name}={text}")
        return ",".join(shown)

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that ``str`` wrote; ValueError for what it cannot have written."""
        types = {field.name: str(field.type) for field in fields(cls)}
        values: dict[str, Any] = {}
        for item in text.split(","):
            name, equals, value = item.strip().partition("=")
            if not equals or name not in types:
                raise ValueError(f"{item!r} is not one of {', '.join(types)} followed by =value")
            values[name] = _read(types[name], value)
        try:
            case = cls(**values)
        except TypeError as error:
            raise ValueError(f"{text!r} is not a case: {error}") from None
        for name, known in (("x", LAYOUTS), ("weight", LAYOUTS), ("bias", BIASES), ("data", DATA)):
            if getattr(case, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}")
        return case

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{self.dtype!r} is not a dtype")
        return dtype

    @property
    def bias_dtype(self) -> torch.dtype | None:
        if self.bias == "none":
            return None
        return torch.float32 if self.bias == "float32" else self.torch_dtype

    def reduces(self, dtype: str) -> bool:
        """Whether it sets PyTorch's switch for this dtype."""
        return self.reduced and self.dtype == dtype

    @property
    def rows_of_x(self) -> tuple[int, ...]:
        """x's leading dimensions."""
        if self.batch < 0:
            return ()
        return (self.batch, self.m // self.batch) if self.batch else (self.m,)

    def problem(self, device: torch.device) -> Problem:
        """What a kernel will be asked, known without building a tensor."""
        address = ALIGNMENT | (self.x_offset | self.weight_offset) * self.torch_dtype.itemsize
        if self.bias_dtype is not None:
            address |= self.bias_offset * self.bias_dtype.itemsize
        return Problem(
            m=self.m,
            n=self.n,
            k=self.k,
            dtype=self.torch_dtype,
            bias_dtype=self.bias_dtype,
            x_strides=canonical(strides(self.x, self.m, self.k), self.m, self.k),
            weight_strides=canonical(strides(self.weight, self.n, self.k), self.n, self.k),
            alignment=address & -address,
            fp32_precision="tf32" if self.reduces("float32") else fp32_precision(),
            allow_fp16_accumulation=self.reduces("float16"),
            interpreted=triton_interpreter(),
            **device_facts(device),
        )


def _read(kind: str, text: str) -> Any:
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        return text == "True"
    if kind.startswith("tuple"):
        return tuple(filter(None, text.split("+")))
    return text
