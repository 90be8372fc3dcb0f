"""The properties catch what they are for: defects put into kernels on purpose.

docs/verification.md lists them with the factors measured: `python tests/test_mutations.py`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
import torch.nn.functional as F

from fusedops import backends
from fusedops.registry import Kernel
from fusedops.settings import triton_interpreter
from fusedops.verify import Failure, check_kernel
from fusedops.verify.fit import plain_cases
from fusedops.verify.runner import Plan, Tally, verify_kernel
from fusedops.verify.strategies import Limits, kernel_cases

CPU = torch.device("cpu")
TILE = 32
PLAN = Plan(CPU, examples=200, seed=1, shrink=False)

Tensor = torch.Tensor
Launch = Callable[[Tensor, Tensor, "Tensor | None", float, Tensor], None]


def epilogue(z: Tensor, scale: float, out: Tensor) -> None:
    out.copy_(z + scale * torch.sigmoid(z))


def wide(*operands: Tensor | None) -> list[Tensor | None]:
    return [
        None if each is None else each.to(torch.promote_types(each.dtype, torch.float32))
        for each in operands
    ]


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight, bias = wide(x, weight, bias)
    return F.linear(x, weight, None if bias is None else bias.to(x.dtype))


def correct(x, weight, bias, scale, out):
    """Tile by tile, as the kernels do."""
    z = product(x, weight, bias)
    for row, column in tiles(out):
        epilogue(tile(z, row, column), scale, tile(out, row, column))


def last_column_of_k_dropped(x, weight, bias, scale, out):
    epilogue(product(x[..., :-1], weight[:, :-1], bias), scale, out)


def bias_dropped(x, weight, bias, scale, out):
    epilogue(product(x, weight, None), scale, out)


def half_accumulation(x, weight, bias, scale, out):
    """The sum is kept in the operands' own 16 bits, 16 products at a time."""
    if x.dtype not in (torch.float16, torch.bfloat16):
        correct(x, weight, bias, scale, out)
        return
    z = torch.zeros(out.shape, dtype=x.dtype)
    for k in range(0, x.shape[-1], 16):
        z = (z + product(x[..., k : k + 16], weight[:, k : k + 16], None)).to(x.dtype)
    z = z.float() if bias is None else z.float() + bias.float()
    epilogue(z, scale, out)


def scale_one_percent_off(x, weight, bias, scale, out):
    epilogue(product(x, weight, bias), 1.01 * scale, out)


def mask_of_the_load_off_by_one(x, weight, bias, scale, out):
    """Reads one element of K too many, and masks nothing."""
    z = product(x, weight, bias) + product(one_past(x), one_past(weight), None)
    epilogue(z, scale, out)


def mask_of_the_store_off_by_one(x, weight, bias, scale, out):
    """Writes one column too many: the next row's first, or past the end."""
    z = product(x, weight, bias)
    epilogue(z, scale, out)
    flat = out.view(-1)
    past = flat.as_strided((out.numel() // out.shape[-1],), (out.shape[-1],), end_of_row(out))
    past.fill_(1.0)


def mask_of_the_store_short_by_one(x, weight, bias, scale, out):
    epilogue(product(x, weight, bias)[..., :-1], scale, out[..., :-1])


def wrong_tile_stored(x, weight, bias, scale, out):
    """The last two tiles of a row of tiles change places."""
    z = product(x, weight, bias)
    epilogue(z, scale, out)
    columns = out.shape[-1]
    if columns >= 2 * TILE:
        first, second = slice(0, TILE), slice(TILE, 2 * TILE)
        epilogue(z[..., second], scale, out[..., first])
        epilogue(z[..., first], scale, out[..., second])


def sigmoid_that_overflows(x, weight, bias, scale, out):
    """exp(z) / (1 + exp(z)) is NaN for large z."""
    z = product(x, weight, bias)
    out.copy_(z + scale * (torch.exp(z) / (1 + torch.exp(z))))


def output_accumulated_into(x, weight, bias, scale, out):
    """Beta = 0 done as a product with what was there."""
    z = product(x, weight, bias)
    out.copy_(0 * out + z + scale * torch.sigmoid(z))


def z_rounded_before_the_epilogue(x, weight, bias, scale, out):
    z = product(x, weight, bias)
    epilogue(z.to(x.dtype).to(z.dtype), scale, out)


def offsets_of_a_contiguous_x(x, weight, bias, scale, out):
    """Takes x's rows to be adjacent."""
    epilogue(product(x.as_strided(x.shape, contiguous(x)), weight, bias), scale, out)


def input_overwritten(x, weight, bias, scale, out):
    correct(x, weight, bias, scale, out)
    x.mul_(2)


DEFECTS = (
    last_column_of_k_dropped,
    bias_dropped,
    half_accumulation,
    scale_one_percent_off,
    mask_of_the_load_off_by_one,
    mask_of_the_store_off_by_one,
    mask_of_the_store_short_by_one,
    wrong_tile_stored,
    sigmoid_that_overflows,
    output_accumulated_into,
    z_rounded_before_the_epilogue,
    offsets_of_a_contiguous_x,
    input_overwritten,
)


def tiles(out: Tensor) -> list[tuple[int, int]]:
    rows = math.prod(out.shape[:-1])
    return [(r, c) for r in range(0, rows, TILE) for c in range(0, out.shape[-1], TILE)]


def tile(matrix: Tensor, row: int, column: int) -> Tensor:
    return matrix.view(-1, matrix.shape[-1])[row : row + TILE, column : column + TILE]


def one_past(operand: Tensor) -> Tensor:
    """The elements that follow the last one of K."""
    last = operand[..., -1:]
    step = operand.stride(-1) if operand.shape[-1] > 1 else 1
    return last.as_strided(last.shape, last.stride(), last.storage_offset() + step)


def end_of_row(out: Tensor) -> int:
    return out.storage_offset() + out.shape[-1]


def contiguous(x: Tensor) -> tuple[int, ...]:
    return torch.empty(x.shape, device="meta").stride()


def mutant(defect: Launch) -> Kernel:
    return replace(
        backends.REFERENCE,
        name=f"mutant.{defect.__name__}",
        prepare=lambda problem, config: defect,
    )


def put_through(defect: Launch) -> Tally:
    return verify_kernel(mutant(defect), PLAN)


def test_the_tiled_kernel_without_a_defect_passes():
    tally = put_through(correct)
    assert tally.complaint is None, tally.complaint


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_caught(defect):
    tally = put_through(defect)
    assert tally.failure is not None, f"{defect.__name__} passed {tally.examples} examples"


TILED = Path(backends.__file__).parents[1] / "triton_kernels" / "tiled.py"
TRITON_DEFECTS = {
    "none": ("BLOCK_M", "BLOCK_M"),
    "last column of K dropped": ("left = depth < K - k", "left = depth < K - k - 1"),
    "mask of the load off by one": ("left = depth < K - k", "left = depth < K - k + 1"),
    "bias dropped": (
        "z += tl.load(bias + columns, mask=columns < N, other=0.0)",
        "z += 0 * tl.load(bias + columns, mask=columns < N, other=0.0)",
    ),
    "half accumulation": (
        "z = tl.dot(a, b, z, input_precision=PRECISION, out_dtype=ACCUMULATOR)",
        "z = tl.dot(a, b, z, input_precision=PRECISION, out_dtype=ACCUMULATOR)"
        ".to(tl.float16).to(ACCUMULATOR)",
    ),
    "scale 1 % off": (
        "EPILOGUE(z, scalar(scale, ACCUMULATOR, SCALE_IN_MEMORY))",
        "EPILOGUE(z, scalar(scale, ACCUMULATOR, SCALE_IN_MEMORY) * 1.01)",
    ),
    "mask of the store off by one": (
        "weight_mask = (columns < N)[None, :]",
        "weight_mask = (columns < N + 1)[None, :]",
    ),
    "wrong tile stored": (
        "places = rows[:, None] * N",
        "places = ((tile_m ^ 1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None] * N",
    ),
}


def mutated_tiled(name: str, folder: Path) -> Kernel:
    """triton.tiled from a source in which the text was changed."""
    old, new = TRITON_DEFECTS[name]
    source = TILED.read_text()
    assert old in source, f"{TILED.name} changed: mutate what {old!r} became"
    path = folder / f"tiled_{name.replace(' ', '_').replace('%', '')}.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location(f"fusedops.triton_kernels.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    original = next(each for each in backends.kernels() if each.name == "triton.tiled")
    return replace(original, prepare=module.launch)


@pytest.mark.skipif(
    not triton_interpreter(), reason="run by test_defects_in_the_triton_source_are_caught"
)
@pytest.mark.parametrize("name", TRITON_DEFECTS)
def test_triton_defect_under_the_interpreter(name, tmp_path):
    plan = replace(PLAN, examples=25 if name == "none" else 100)
    tally = verify_kernel(mutated_tiled(name, tmp_path), plan)
    if name == "none":
        assert tally.complaint is None, tally.complaint
    else:
        assert tally.failure is not None, f"{name} passed {tally.examples} examples"


@pytest.mark.skipif(triton_interpreter(), reason="this is the process it starts")
def test_defects_in_the_triton_source_are_caught():
    pytest.importorskip("triton", reason="Triton is not installed: its source was not mutated")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"]
    run = subprocess.run(
        [*command, "-rf", "-k", "under_the_interpreter", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(TRITON_DEFECTS)} passed" in run.stdout


def measured(defect: Launch) -> tuple[int, list[float]]:
    """How many of the plan's examples show the defect, and the finite multiples of the bound."""
    caught, factors = 0, []
    kernel = mutant(defect)
    drawn = kernel_cases(kernel, plain_cases(kernel, CPU), Limits.of(CPU), CPU, None)

    @hypothesis.seed(PLAN.seed)
    @hypothesis.settings(max_examples=PLAN.examples, database=None, deadline=None)
    @hypothesis.given(drawn)
    def each(case):
        nonlocal caught
        try:
            check_kernel(kernel, case, CPU)
        except Failure as failure:
            caught += 1
            if 1 < failure.fraction < math.inf:
                factors.append(failure.fraction)

    each()
    return caught, sorted(factors)


if __name__ == "__main__":
    print("| Defect | Examples that show it | Median | Largest |\n|---|---|---|---|")
    for each in DEFECTS:
        caught, factors = measured(each)
        middle, most = (factors[len(factors) // 2], factors[-1]) if factors else (math.nan,) * 2
        name = each.__name__.replace("_", " ")
        print(f"| {name} | {caught} of {PLAN.examples} | {middle:.3g} | {most:.3g} |")
