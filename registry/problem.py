"""The problem: everything a kernel may look at to decide whether, and how, it can run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

FEW_ROWS = 64
"""Up to so many rows of x the op is one pass over the weights."""


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float16`` -> ``"float16"``."""
    return str(dtype).removeprefix("torch.")


def _row_major(rows: int, columns: int) -> tuple[int, int]:
    return (max(columns, 1), 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """One call, without its data: x (m, k), weight (n, k), bias (n,) or None, result (m, n).

    Strides are in elements; the result is always contiguous. ``alignment`` is the largest power of
    two, at most 16, that divides the address of every operand, in bytes. ``fp32_precision`` is
    PyTorch's ``torch.backends.cuda.matmul.fp32_precision`` ("ieee" unless the user allows "tf32"),
    ``allow_fp16_accumulation`` its flag of that name, False unless the operands are float16.
    ``batch_invariant`` asks that a row's bits depend on neither the other rows nor M; the rows of x
    are then dense.
    ``interpreted`` says that Triton's interpreter is on, so that its kernels take CPU tensors.
    ``writes_z`` asks for z as a second result, for a gradient; ``scale_dtype`` is that of a scale
    which is a tensor of one element on the device, None for a number.
    """

    m: int
    n: int
    k: int
    dtype: torch.dtype
    bias_dtype: torch.dtype | None
    x_strides: tuple[int, int]
    weight_strides: tuple[int, int]
    alignment: int = 16
    device: str = "cuda"
    capability: tuple[int, int] | None = None
    multiprocessors: int = 0
    device_name: str = ""
    fp32_precision: str = "ieee"
    allow_fp16_accumulation: bool = False
    batch_invariant: bool = False
    interpreted: bool = False
    writes_z: bool = False
    scale_dtype: torch.dtype | None = None
    op: str = "gemm_sig_res"

    @classmethod
    def contiguous(
        cls,
        m: int,
        n: int,
        k: int,
        dtype: torch.dtype,
        *,
        bias_dtype: torch.dtype | None = None,
        card: Card | None = None,
    ) -> Problem:
        """The problem of contiguous, aligned operands, on ``card`` (None: a CPU)."""
        problem = cls(
            m=m,
            n=n,
            k=k,
            dtype=dtype,
            bias_dtype=bias_dtype,
            x_strides=_row_major(m, k),
            weight_strides=_row_major(n, k),
            device="cpu",
        )
        return problem if card is None else card.place(problem)

    @property
    def arithmetic(self) -> str:
        """What measurements go by: the dtype, or "tf32" for float32 where TF32 is allowed."""
        tf32 = self.dtype == torch.float32 and self.fp32_precision == "tf32"
        return "tf32" if tf32 else dtype_name(self.dtype)

    def resized(self, m: int, n: int, k: int) -> Problem:
        """The same problem of another size, its operands contiguous."""
        x_strides, weight_strides = _row_major(m, k), _row_major(n, k)
        return replace(self, m=m, n=n, k=k, x_strides=x_strides, weight_strides=weight_strides)

    def __str__(self) -> str:
        bias = "none" if self.bias_dtype is None else dtype_name(self.bias_dtype)
        where = self.device
        if self.capability is not None:
            where += f" sm_{self.capability[0]}{self.capability[1]}"
        if self.device_name:
            where += f" ({self.device_name})"
        return (
            f"{self.op}: x ({self.m}, {self.k}) strides {self.x_strides}, "
            f"weight ({self.n}, {self.k}) strides {self.weight_strides}, bias {bias}, "
            f"{dtype_name(self.dtype)}, aligned to {self.alignment} bytes, "
            f"fp32 precision {self.fp32_precision}{self._wishes()}, on {where}"
        )

    def _wishes(self) -> str:
        wishes = {
            "fp16 accumulation allowed": self.allow_fp16_accumulation,
            "batch-invariant": self.batch_invariant,
            "z kept": self.writes_z,
            "scale on the device": self.scale_dtype is not None,
        }
        return "".join(f", {wish}" for wish, is_asked in wishes.items() if is_asked)


@dataclass(frozen=True, slots=True)
class Card:
    """A CUDA card as the selector sees it; lets any machine ask what another would choose."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int

    def place(self, problem: Problem) -> Problem:
        return replace(
            problem,
            device="cuda",
            capability=self.capability,
            multiprocessors=self.multiprocessors,
            device_name=self.name,
        )


RTX_4090 = Card("NVIDIA GeForce RTX 4090", (8, 9), 128)
H200 = Card("NVIDIA H200", (9, 0), 132)
CARDS = {"sm_89": RTX_4090, "sm_90": H200}
"""The card that stands for an architecture."""
