"""``python -m fusedops COMMAND``: each command is a module of fusedops.cli."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from fusedops.registry import NoKernelError, UnknownNameError
from fusedops.settings import WrongValueError

COMMANDS = ("run", "explain", "doctor", "verify", "bench", "tune", "lint", "export")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fusedops")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = import_module(f"fusedops.cli.{name}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    chosen = parser.parse_args(arguments)
    status: int = chosen.main(chosen)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (
        NoKernelError,
        UnknownNameError,
        WrongValueError,
    ) as error:  # as asked for, by an argument or the environment
        sys.exit(f"error: {error}")
