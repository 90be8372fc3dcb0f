"""Say what this machine has: PyTorch, card, Triton, compiled kernels, and what is missing."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

import fusedops
from fusedops import backends, native, settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", action="store_true", help="list the environment variables")


def main(args: argparse.Namespace) -> int:
    if args.settings:
        print(settings.as_markdown(), end="")
        return 0
    print(f"fusedops {fusedops.__version__}, Python {platform.python_version()} on {sys.platform}")
    print(f"torch {torch.__version__}, triton {_version('triton')}")
    print(f"card: {_cards()}")
    missing = backends.missing()
    for backend in ("cuda", "triton", "cpu", "reference"):
        print(f"\nbackend {backend}: {missing.get(backend, 'ready')}")
        for kernel in backends.kernels():
            if kernel.backend == backend:
                print(f"  {kernel.name}")
    catalogue = native.catalogue()
    if catalogue is not None:
        print("\ncompiled CUDA kernels")
        for instance in catalogue.instances():
            print(f"  {instance!r}")
            for each in instance.resources:
                print(
                    f"    {each['arch']}: {each['registers']} registers, "
                    f"{each['spill_bytes']} bytes spilled, {each['occupancy_blocks']} blocks "
                    f"({each['occupancy_warps']} warps) resident, limited by {each['limiter']}"
                )
    changed = [each for each in settings.VARIABLES if each.read() != each.default]
    print("\nsettings: " + (", ".join(f"{e.name}={e.read()}" for e in changed) or "defaults"))
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cards() -> str:
    if not torch.cuda.is_available():
        return "none that PyTorch can use"
    names = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())]
    return ", ".join(f"{each.name} (sm_{each.major}{each.minor})" for each in names)
