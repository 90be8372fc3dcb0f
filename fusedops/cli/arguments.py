"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fusedops.bench.workload import Shape
from fusedops.checks import DTYPES
from fusedops.registry import dtype_name


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is a whole number from 1 up; got {text!r}")
    return int(text)


def shape(text: str) -> Shape:
    """``MxNxK`` -> (m, n, k)."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"a shape is MxNxK, as 1024x8192x8192; got {text!r}")
    m, n, k = map(positive, parts)
    return m, n, k


def shapes(text: str) -> list[Shape]:
    """Shapes separated by commas."""
    found = [shape(each) for each in text.split(",") if each]
    if not found:
        raise argparse.ArgumentTypeError(f"no shape in {text!r}")
    return found


def names_of(known: Callable[[], Mapping[str, Any]]) -> Callable[[str], list[Any]]:
    """Known things by their names, separated by commas."""

    def parse(text: str) -> list[Any]:
        things = known()
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in things]
        if unknown or not names:
            complaint = f"unknown: {', '.join(unknown)}" if unknown else "no name"
            raise argparse.ArgumentTypeError(f"{complaint}; known: {', '.join(things)}")
        return [things[name] for name in names]

    return parse


def dtype(text: str) -> torch.dtype:
    known = {dtype_name(each): each for each in DTYPES}
    if text not in known:
        raise argparse.ArgumentTypeError(f"known dtypes: {', '.join(known)}; got {text!r}")
    return known[text]


def add_switches(parser: argparse.ArgumentParser) -> None:
    """PyTorch's switches of the arithmetic, for ``misplaced_switch`` to look over."""
    allowed = parser.add_mutually_exclusive_group()
    allowed.add_argument(
        "--allow-tf32", action="store_true", help="set PyTorch's switch, for float32"
    )
    allowed.add_argument("--allow-fp16-accumulation", action="store_true", help="for float16")


def misplaced_switch(args: argparse.Namespace, dtype: torch.dtype) -> str | None:
    """Why a switch means nothing for the dtype."""
    switches = {
        "--allow-tf32": (args.allow_tf32, torch.float32),
        "--allow-fp16-accumulation": (args.allow_fp16_accumulation, torch.float16),
    }
    for name, (given, of) in switches.items():
        if given and dtype is not of:
            return f"{name} is a switch of {dtype_name(of)}'s, and this is {dtype_name(dtype)}"
    return None


def device(text: str | None) -> torch.device:
    """The named device, or the best this machine has."""
    if text is not None:
        named = _named_device(text)
        if named.type == "cuda" and named.index is not None:
            torch.cuda.set_device(named)
        return named
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _named_device(text: str) -> torch.device:
    try:
        named = torch.device(text)
    except RuntimeError:
        raise SystemExit(f"{text!r} is no device: cpu, cuda or cuda:1, for instance") from None
    if named.type not in ("cpu", "cuda"):
        raise SystemExit(f"fusedops runs on cpu and cuda devices, not on {named.type}")
    if named.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device that PyTorch can use here")
    if (named.index or 0) >= max(torch.cuda.device_count(), 1):
        raise SystemExit(f"there is no device {text} here")
    return named
