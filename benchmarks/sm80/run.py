"""Build the contest of the mma.sync kernels, run it on this machine's card, keep the result.

python benchmarks/sm80/run.py --out benchmarks/results/h200_sm80.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import cutlass_library
import torch
import triton
from triton_sm89 import compile_all

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = (
    HERE / "contest.cu",
    HERE / "cutlass.cu",
    CSRC / "cuda" / "sm80_bf16.cu",
    CSRC / "cuda" / "sm80_fp16_accumulation.cu",
    CSRC / "cuda" / "predicates.cpp",
)


def build(folder: Path, number: str) -> Path:
    """The program, its kernels through the PTX of sm_80 as CUTLASS 2.x's are."""
    folder.mkdir(parents=True, exist_ok=True)
    cutlass = Path(cutlass_library.__file__).parent / "source" / "include"
    flags = ["-std=c++17", "-O3", "--expt-relaxed-constexpr", "-cudart=static"]
    flags += [f"-gencode=arch=compute_80,code=sm_{number}", "-ldl"]
    flags += [f"-I{path}" for path in (HERE, CSRC, cutlass)]
    program = folder / "contest"
    subprocess.run(["nvcc", *flags, "-o", program, *SOURCES], check=True)
    return program


def document(rows: list[list[str]], device: str, versions: str) -> dict[str, Any]:
    """The result file: rates in TFLOP/s, errors over the bound, medians in microseconds."""
    times = [row[1:] for row in rows if row[0] == "time"]
    return {
        "device": device,
        "versions": versions,
        "date": date.today().isoformat(),
        "rates": {what: float(rate) for kind, what, rate in (r for r in rows if r[0] == "rate")},
        "error_over_bound": {
            f"{title}: {family} {name}": float(worst)
            for _, title, family, name, worst in (row for row in rows if row[0] == "check")
        },
        "times": [
            {
                **{"sums": title.removesuffix(" sums"), "family": family, "name": name},
                **{"m": int(m), "n": int(n), "k": int(k), "microseconds": float(time)},
            }
            for title, family, name, m, n, k, time in times
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--build", type=Path, default=Path("build/sm80_contest"))
    arguments = parser.parse_args()
    major, minor = torch.cuda.get_device_capability()
    program = build(arguments.build, f"{major}{minor}")
    cubins = arguments.build / "triton"
    compile_all(cubins, f"sm_{major}{minor}")
    result = arguments.build / "result.csv"
    environment = dict(os.environ)
    for library in Path(torch.__file__).parents[1].glob("nvidia/cu*/lib/libcublas.so.*"):
        environment["CUBLAS_LIBRARY"] = str(library)
    subprocess.run([program, cubins, result], check=True, env=environment)
    with result.open() as lines:
        rows = list(csv.reader(lines))
    versions = f"CUDA {torch.version.cuda}, triton {triton.__version__}"
    text = json.dumps(document(rows, torch.cuda.get_device_name(), versions))
    arguments.out.write_text(text.replace('{"sums"', '\n  {"sums"') + "\n")


if __name__ == "__main__":
    main()
