"""The Triton kernels without a card: what they declare, what they compile to, what they compute.

Run as a script, under Triton's interpreter, it computes the cases below and prints their errors:
Triton reads TRITON_INTERPRET when it is imported, so the cases run in a process of their own.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch

from fusedops.numerics import error_over_bound
from fusedops.registry import H200, RTX_4090, Card, Problem
from fusedops.triton_kernels import KERNELS, PERSISTENT_TMA, PINGPONG, SKINNY, TILED
from fusedops.triton_kernels.config import (
    SHARED_MEMORY_PER_BLOCK,
    PersistentConfig,
    SkinnyConfig,
    TiledConfig,
    load_bytes,
)

A100 = Card("NVIDIA A100", (8, 0), 108)
B200 = Card("NVIDIA B200", (10, 0), 148)
T4 = Card("Tesla T4", (7, 5), 40)
HALF, BF16 = torch.float16, torch.bfloat16
FP32, FP64 = torch.float32, torch.float64


def problem(m=1024, n=8192, k=8192, dtype=BF16, card=RTX_4090, bias=True, **changes):
    bias_dtype = dtype if bias else None
    return replace(Problem.contiguous(m, n, k, dtype, bias_dtype=bias_dtype, card=card), **changes)


# --- declarations -------------------------------------------------------------------------------


def test_declaring_kernels_does_not_import_triton():
    code = "import sys, fusedops.triton_kernels; assert 'triton' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_package_refuses_another_name(tmp_path):
    import fusedops.triton_kernels as package

    (tmp_path / "triton_kernels").symlink_to(Path(package.__file__).parent)
    code = "import triton_kernels"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "this package is fusedops.triton_kernels" in done.stderr


def test_names():
    names = ["triton.tiled", "triton.persistent_tma", "triton.pingpong", "triton.skinny"]
    assert [kernel.name for kernel in KERNELS] == names
    assert {kernel.backend for kernel in KERNELS} == {"triton"}


@pytest.mark.parametrize(
    ("dtype", "precision", "declared"),
    [
        (HALF, "ieee", (2**-24, 1 / 8)),
        (BF16, "tf32", (2**-24, 1 / 8)),
        (FP32, "ieee", (2**-24, 0)),
        (FP32, "tf32", (2**-11, 0)),
        (FP64, "tf32", (2**-53, 0)),
    ],
)
def test_accumulation(dtype, precision, declared):
    for kernel in KERNELS:
        accumulation = kernel.accumulation(problem(dtype=dtype, fp32_precision=precision))
        assert (accumulation.unit_roundoff, accumulation.chain) == declared


SHAPES = [
    (1, 1, 1),
    (1, 4096, 4096),
    (16, 4096, 4096),
    (128, 4096, 4096),
    (1000, 8195, 8195),
    (1024, 1024, 1024),
    (1024, 8192, 8192),
    (65536, 1024, 1024),
    (2**33, 1, 8),
]


@pytest.mark.parametrize("card", [RTX_4090, A100, H200, B200, None], ids=str)
@pytest.mark.parametrize("dtype", [HALF, BF16, FP32, FP64], ids=str)
def test_every_config_of_a_problem_is_valid_and_a_kernel_without_reasons_has_one(card, dtype):
    for kernel in KERNELS:
        for shape in SHAPES:
            for precision in ("ieee", "tf32"):
                asked = problem(
                    *shape, dtype=dtype, card=card, fp32_precision=precision, interpreted=not card
                )
                if kernel.why_not(asked):
                    continue
                configs = kernel.configs(asked)
                assert configs
                assert len({str(config) for config in configs}) == len(configs)
                for config in configs:
                    assert not config.why_invalid(asked)


def test_preferred_tiles_fill_the_card():
    first = {
        (kernel.name, shape): kernel.configs(problem(*shape, card=H200))[0]
        for kernel in KERNELS
        for shape in SHAPES[:-1]
        if not kernel.why_not(problem(*shape, card=H200))
    }
    large = first["triton.persistent_tma", (1024, 8192, 8192)]
    assert (large.block_m, large.block_n) == (128, 256)
    small = first["triton.persistent_tma", (1024, 1024, 1024)]
    assert small.tiles(problem(1024, 1024, 1024)) > 132 // 2
    for name in ("triton.tiled", "triton.persistent_tma"):
        decode = first[name, (16, 4096, 4096)]
        assert decode.block_m <= 64
        assert 132 / 2 < decode.tiles(problem(16, 4096, 4096)) <= 2 * 132


def test_configs_on_a_4090_ask_for_no_more_than_it_has():
    for dtype in (HALF, FP32, FP64):
        for config in TILED.configs(problem(dtype=dtype)):
            assert config.shared_memory(problem(dtype=dtype)) <= 101376
    assert SHARED_MEMORY_PER_BLOCK[8, 6] == SHARED_MEMORY_PER_BLOCK[8, 9] == 101376
    assert SHARED_MEMORY_PER_BLOCK[9, 0] == 232448


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (TiledConfig(96, 64, 32, 4, 3), "block_m is 96"),
        (TiledConfig(64, 64, 8, 4, 3), "block_k is 8"),
        (TiledConfig(64, 512, 32, 8, 3), "block_n is 512"),
        (TiledConfig(64, 8, 32, 8, 3), "block_n is 8: it must be a power of two from 16"),
        (SkinnyConfig(64, 4, 32, 8, 3), "block_n is 4: it must be a power of two from 8"),
        (TiledConfig(64, 64, 32, 3, 3), "num_warps is 3"),
        (TiledConfig(64, 64, 32, 4, 0), "num_stages is 0"),
        (PersistentConfig(64, 64, 32, 4, 3, pieces=3), "pieces is 3"),
        (TiledConfig(128, 256, 32, 4, 2), "256 registers"),
        (SkinnyConfig(64, 128, 32, 4, 2), "256 registers"),
        (TiledConfig(128, 128, 64, 8, 5), "131072 bytes of shared memory"),
    ],
)
def test_invalid_configs_say_why(config, says):
    reasons = config.why_invalid(problem())
    assert any(says in reason for reason in reasons), reasons
    assert not TiledConfig(128, 128, 64, 8, 4).why_invalid(problem())


@pytest.mark.parametrize(
    ("kernel", "asked", "says"),
    [
        (TILED, problem(card=None), "set TRITON_INTERPRET=1"),
        (TILED, problem(card=T4), "compute capability is 7.5"),
        (TILED, problem(dtype=torch.int32), "the operands are int32"),
        (TILED, problem(k=2**31), "K is 2147483648"),
        (TILED, problem(m=2**40), "a grid holds"),
        (TILED, problem(bias_dtype=FP64), "bias is float64"),
        (TILED, problem(op="gemm_gelu"), "the operator is gemm_gelu"),
        (TILED, problem(card=None, interpreted=True), "unset TRITON_INTERPRET"),
        (PERSISTENT_TMA, problem(), "compute capability is 8.9"),
        (PERSISTENT_TMA, problem(card=B200, dtype=FP32), "faster than that on compute capability"),
        (PERSISTENT_TMA, problem(card=H200, dtype=FP32, k=252), "from K = 256 on"),
        (PERSISTENT_TMA, problem(card=H200, dtype=FP64), "the operands are float64"),
        (PERSISTENT_TMA, problem(card=H200, alignment=8), "a multiple of 8 bytes only"),
        (PERSISTENT_TMA, problem(card=H200, k=100), "x's rows are 200 bytes apart"),
        (PERSISTENT_TMA, problem(card=H200, x_strides=(1, 1024)), "x.contiguous()"),
        (PERSISTENT_TMA, problem(card=H200, weight_strides=(1, 8192)), "weight.contiguous()"),
        (PERSISTENT_TMA, problem(card=H200, x_strides=(0, 1)), "x's rows are 0 elements apart"),
        (PERSISTENT_TMA, problem(card=H200, x_strides=(2**39, 1)), "TMA reaches below"),
        (PERSISTENT_TMA, problem(card=H200, m=2**31), "M is 2147483648"),
        (PINGPONG, problem(card=B200), "wgmma is 9.0's alone"),
        (PINGPONG, problem(card=H200, dtype=FP32), "the operands are float32"),
        (PINGPONG, problem(card=H200, n=8191), "N is 8191"),
        (PINGPONG, problem(card=H200, k=100), "x's rows are 200 bytes apart"),
        (PINGPONG, problem(card=None, interpreted=True, dtype=HALF), "does not run Gluon"),
        (SKINNY, problem(), "M is 1024"),
        (SKINNY, problem(m=1, dtype=FP32), "the operands are float32"),
        (SKINNY, problem(m=1, weight_strides=(1, 8192)), "weight's elements along K are 8192"),
        (SKINNY, problem(m=1, k=2**31), "K is 2147483648"),
        (SKINNY, problem(m=1, n=2**40), "a grid holds"),
    ],
)
def test_reasons(kernel, asked, says):
    reasons = kernel.why_not(asked)
    assert any(says in reason for reason in reasons), reasons
    assert all(": " in reason for reason in reasons), "each says what to do about it"


@pytest.mark.parametrize(
    ("kernel", "asked"),
    [
        (TILED, problem(x_strides=(0, 3), weight_strides=(1, 8192), alignment=2)),
        (TILED, problem(bias=False)),
        (TILED, problem(dtype=HALF, card=None, interpreted=True)),
        (TILED, problem(m=2**32 + 5, n=3, k=7)),
        (PERSISTENT_TMA, problem(card=H200, n=8191)),
        (PERSISTENT_TMA, problem(card=H200, m=1, x_strides=(7, 1))),
        (PERSISTENT_TMA, problem(card=H200, m=2**20, n=2**20)),
        (PERSISTENT_TMA, problem(card=B200)),
        (PERSISTENT_TMA, problem(card=H200, dtype=FP32, fp32_precision="tf32")),
        (PERSISTENT_TMA, problem(card=H200, dtype=FP32)),
        (PERSISTENT_TMA, problem(dtype=HALF, card=None, interpreted=True)),
        (PINGPONG, problem(card=H200)),
        (SKINNY, problem(m=1)),
        (SKINNY, problem(m=16, n=3, k=7, alignment=2, card=H200)),
    ],
)
def test_no_reasons(kernel, asked):
    assert kernel.why_not(asked) == ()


def test_loads_are_as_wide_as_strides_sizes_and_addresses_allow():
    assert load_bytes(problem()) == 16
    assert load_bytes(problem(k=8196)) == 8
    assert load_bytes(problem(k=8195)) == 2
    assert load_bytes(problem(alignment=4)) == 4
    assert load_bytes(problem(x_strides=(1, 1024))) == 16
    assert load_bytes(problem(x_strides=(16384, 2))) == 2


# --- machine code -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """What the tests look at of a compiled kernel."""

    ttir: str
    ptx: str
    shared: int
    stack: int

    def stores(self):
        one = r"tt\.(?:descriptor_)?store\b|async_tma_copy_local_to_global|async_tma_store\b"
        return len(re.findall(one, self.ttir))

    def wide_copies(self):
        return re.search(r"cp\.async\.cg\.shared\.global[^;]*, 0x10", self.ptx) is not None


@cache
def module_of(kernel):
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    return import_module(f"fusedops.{kernel.name.replace('triton.', 'triton_kernels.')}")


@cache
def compile_offline(kernel, asked, config):
    compiled = module_of(kernel).specialization(asked, config).compile(asked.capability)
    return Compiled(
        compiled.asm["ttgir" if kernel is PINGPONG else "ttir"],
        compiled.asm["ptx"],
        compiled.metadata.shared,
        stack_bytes(compiled.asm["cubin"]),
    )


def stack_bytes(cubin: bytes) -> int:
    """Local memory of each thread, which is where spilled registers go."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:\d+ STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return max(map(int, found.groups()))


def check(kernel, asked, config):
    """The promises of every configuration: it fits, nothing spills, one store for each piece."""
    compiled = compile_offline(kernel, asked, config)
    assert compiled.stack == 0, "registers spill"
    assert compiled.shared <= config.shared_memory(asked)
    assert compiled.shared <= SHARED_MEMORY_PER_BLOCK[asked.capability]
    consumers = 2 if kernel is PINGPONG else 1
    assert compiled.stores() == consumers * getattr(config, "pieces", 1)
    assert not re.search(r"arith\.muli .*: tensor<\w+xi32>", compiled.ttir), "32-bit offsets"
    return compiled


def numbered(kernel, asked):
    return [pytest.param(kernel, asked, c, id=f"{c}") for c in kernel.configs(asked)]


@pytest.mark.parametrize(("kernel", "asked", "config"), numbered(TILED, problem()))
def test_tiled_on_ada(kernel, asked, config):
    compiled = check(kernel, asked, config)
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16" in compiled.ptx
    assert compiled.wide_copies()
    assert "cp.async.wait_group" in compiled.ptx
    assert re.search(r"arith\.muli .*: tensor<\w+xi64>", compiled.ttir), "64-bit offsets"


@pytest.mark.parametrize(("kernel", "asked", "config"), numbered(TILED, problem(card=H200)))
def test_tiled_on_hopper(kernel, asked, config):
    compiled = check(kernel, asked, config)
    assert ("wgmma.mma_async" in compiled.ptx) == (config.block_m >= 64)
    assert compiled.wide_copies()


@pytest.mark.parametrize(
    ("kernel", "asked", "config"), numbered(PERSISTENT_TMA, problem(card=H200))
)
def test_persistent_tma(kernel, asked, config):
    compiled = check(kernel, asked, config)
    assert "wgmma.mma_async.sync.aligned" in compiled.ptx
    assert "cp.async.bulk.tensor.2d.shared" in compiled.ptx
    assert "cp.async.bulk.tensor.2d.global" in compiled.ptx
    assert "st.global" not in compiled.ptx


@pytest.mark.parametrize(("kernel", "asked", "config"), numbered(PINGPONG, problem(card=H200)))
def test_pingpong(kernel, asked, config):
    compiled = check(kernel, asked, config)
    assert re.search(rf"wgmma\.mma_async\S*\.m64n{config.block_n}k16\.", compiled.ptx)
    assert re.search(r"setmaxnreg\.inc\S* \s*232", compiled.ptx), "consumers get more registers"
    assert re.search(r"setmaxnreg\.dec\S* \s*40", compiled.ptx), "and the producer gives them"
    assert "st.global" not in compiled.ptx


@pytest.mark.parametrize(
    ("kernel", "asked", "config"), numbered(PERSISTENT_TMA, problem(card=H200, dtype=FP32))
)
def test_three_tf32_products(kernel, asked, config):
    compiled = check(kernel, asked, config)
    steps = config.block_k // 8 * max(config.block_m // 16 // config.num_warps, 1)
    assert len(re.findall(r"wgmma\.mma_async\S*\.f32\.tf32\.tf32", compiled.ptx)) == 3 * steps


@pytest.mark.parametrize("card", [RTX_4090, H200], ids=str)
@pytest.mark.parametrize("m", [1, 16, 32])
def test_skinny(card, m):
    for config in SKINNY.configs(problem(m=m, card=card)):
        compiled = check(SKINNY, problem(m=m, card=card), config)
        assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16" in compiled.ptx
        assert compiled.wide_copies()
        assert ("griddepcontrol.wait" in compiled.ptx) == (card is H200)


@pytest.mark.parametrize("card", [RTX_4090, H200], ids=str)
@pytest.mark.parametrize(
    ("dtype", "precision", "uses", "changes"),
    [
        (HALF, "ieee", "mma", {}),
        (FP32, "ieee", "fma.rn.f32", {}),
        (FP32, "tf32", "tf32", {}),
        (FP64, "ieee", "f64", {}),
        (HALF, "ieee", "mma", {"bias": False}),
        (HALF, "ieee", "mma", {"bias_dtype": FP32}),
        (HALF, "ieee", "mma", {"x_strides": (1, 1024), "weight_strides": (1, 8192)}),
    ],
)
def test_every_dtype_and_layout_is_pipelined(card, dtype, precision, uses, changes):
    asked = problem(dtype=dtype, card=card, fp32_precision=precision, **changes)
    compiled = check(TILED, asked, TILED.configs(asked)[0])
    assert uses in compiled.ptx
    assert compiled.wide_copies()
    assert "fma.rn.ftz" not in compiled.ptx


@pytest.mark.parametrize("card", [RTX_4090, H200], ids=str)
@pytest.mark.parametrize(
    ("dtype", "precision"), [(HALF, "ieee"), (FP32, "ieee"), (FP32, "tf32"), (FP64, "ieee")]
)
def test_odd_sizes_do_not_spill(card, dtype, precision):
    asked = problem(1000, 8195, 8195, dtype=dtype, card=card, fp32_precision=precision)
    check(TILED, asked, TILED.configs(asked)[0])


def test_odd_columns_are_stored_through_pointers():
    asked = problem(1000, 8195, 8192, card=H200)
    compiled = check(PERSISTENT_TMA, asked, PERSISTENT_TMA.configs(asked)[0])
    assert "st.global" in compiled.ptx
    assert re.search(r"arith\.muli .*: tensor<\w+xi64>", compiled.ttir), "64-bit offsets"


@pytest.mark.parametrize("dtype", [HALF, FP32], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_code_does_not_depend_on_m(kernel, dtype):
    sizes = range(1, 17) if kernel is SKINNY else range(1, 4096, 7)
    problems = [problem(m, 4096, 4096, card=H200, dtype=dtype) for m in sizes]
    if kernel.why_not(problems[0]):
        pytest.skip(kernel.why_not(problems[0])[0])
    specialization = module_of(kernel).specialization
    for config in kernel.configs(problems[0]):
        assert len({specialization(each, config).key for each in problems}) == 1


def test_a_transposed_x_compiles_twice_at_most():
    problems = [
        problem(m, 4096, 4096, card=H200, dtype=HALF, x_strides=(1, m)) for m in range(512, 600)
    ]
    config = TILED.configs(problems[0])[0]
    specialization = module_of(TILED).specialization
    assert len({specialization(each, config).key for each in problems}) == 2


# --- results, under the interpreter -------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    m: int
    n: int
    k: int
    dtype: torch.dtype = HALF
    x: str = "contiguous"
    weight: str = "contiguous"
    bias: torch.dtype | None = FP32
    scale: float = 2.0
    special: bool = False
    config: int = 0
    processors: int = 3
    precision: str = "ieee"
    kernel: str = "triton.tiled"

    def __str__(self):
        shown = [f"{self.m}x{self.n}x{self.k}", str(self.dtype).removeprefix("torch.")]
        shown += [f"x-{self.x}", f"w-{self.weight}", f"bias-{self.bias}", f"scale{self.scale}"]
        shown += ["special"] * self.special + [f"config{self.config}", self.precision]
        return "-".join([self.kernel, *shown])


TMA = "triton.persistent_tma"
SKINNY_ = "triton.skinny"
CASES = [
    *(Case(m, n, k) for m in (1, 17, 129) for n in (1, 17, 129) for k in (1, 17, 129)),
    *(Case(17, 129, 33, dtype) for dtype in (FP32, FP64)),
    Case(33, 40, 64, FP32, precision="tf32"),
    *(Case(65, 70, 72, config=-1, bias=bias) for bias in (None, HALF, FP32)),
    *(Case(40, 48, 56, x=layout) for layout in ("transposed", "sliced", "strided", "expanded")),
    *(Case(40, 48, 56, FP32, weight=layout) for layout in ("transposed", "sliced", "strided")),
    Case(40, 48, 56, FP64, "transposed", "transposed", FP64),
    Case(24, 40, 32, FP32, special=True),
    Case(24, 40, 32, HALF, special=True),
    *(Case(24, 40, 32, FP32, scale=scale) for scale in (0.0, -3.5, 1e4)),
    *(Case(8 * m, 64, 64, config=-1) for m in (1, 5, 40)),
    # Fewer tiles than programs, as many, and more; a ragged last tile; whole and halved stores.
    *(Case(m, n, 72, processors=5, kernel=TMA) for m in (1, 17, 300) for n in (8, 136, 1032)),
    *(Case(300, 520, 72, config=config, kernel=TMA) for config in (1, 3, 5, -1)),
    Case(300, 520, 72, x="sliced", weight="sliced", bias=HALF, kernel=TMA),
    *(Case(130, n, 64, bias=bias, kernel=TMA) for n in (1, 129) for bias in (None, FP32)),
    Case(24, 40, 32, HALF, special=True, kernel=TMA),
    Case(70, 136, 72, FP32, precision="tf32", kernel=TMA),
    *(Case(m, 72, 260, FP32, config=config, kernel=TMA) for m in (1, 130) for config in (0, -1)),
    Case(24, 40, 256, FP32, special=True, kernel=TMA),
    *(Case(m, n, k, kernel=SKINNY_) for m in (1, 7, 16) for n in (1, 33) for k in (1, 33, 520)),
    *(Case(m, 40, 64, config=-1, bias=bias, kernel=SKINNY_) for m, bias in ((3, None), (16, HALF))),
    Case(9, 40, 96, x="sliced", weight="sliced", kernel=SKINNY_),
    Case(9, 40, 96, x="expanded", kernel=SKINNY_),
    Case(12, 40, 32, special=True, kernel=SKINNY_),
]


def poisoned(rows, columns, dtype, layout):
    """A matrix of random numbers in storage that is NaN wherever the matrix is not."""
    vector = 16 // dtype.itemsize
    if layout == "expanded":
        return poisoned(1, columns, dtype, "contiguous").expand(rows, columns)
    if layout == "transposed":
        return poisoned(columns, rows, dtype, "contiguous").T
    stride, step = {
        "contiguous": (columns, 1),
        "sliced": (columns + 3 * vector, 1),
        "strided": (2 * columns + 1, 2),
    }[layout]
    storage = torch.full((rows * stride + 512,), torch.nan, dtype=dtype)
    matrix = storage.as_strided((rows, columns), (stride, step), 256)
    return matrix.copy_(torch.randn(rows, columns, dtype=torch.float64))


def compute(case):
    """The largest error of a case as a fraction of its bound."""
    torch.manual_seed(case.m + 1000 * case.n + case.k)
    x = poisoned(case.m, case.k, case.dtype, case.x)
    weight = poisoned(case.n, case.k, case.dtype, case.weight)
    bias = None
    if case.bias is not None:
        bias = poisoned(1, case.n, case.bias, "contiguous")[0]
    if case.special:
        x[0] = torch.nan
        x[1, 3] = torch.inf
        weight[1] *= 1e4
        bias[2:5] = torch.tensor([torch.inf, -torch.inf, torch.nan])
        bias[5:9] = torch.tensor([-1e30, 1e30, -88.8, -104.0])
    canary = 7.0
    storage = torch.full((case.m * case.n + 512,), canary, dtype=case.dtype)
    out = storage[256 : 256 + case.m * case.n].view(case.m, case.n)
    asked = Problem(
        m=case.m,
        n=case.n,
        k=case.k,
        dtype=case.dtype,
        bias_dtype=case.bias,
        x_strides=x.stride(),
        weight_strides=weight.stride(),
        device="cpu",
        multiprocessors=case.processors,
        fp32_precision=case.precision,
        interpreted=True,
    )
    kernel = next(kernel for kernel in KERNELS if kernel.name == case.kernel)
    assert not kernel.why_not(asked), kernel.why_not(asked)
    launch = kernel.prepare(asked, kernel.configs(asked)[case.config])
    launch(x, weight, bias, case.scale, out)
    assert (storage[:256] == canary).all(), "wrote before the result"
    assert (storage[256 + case.m * case.n :] == canary).all(), "wrote behind the result"
    return error_over_bound(out, x, weight, bias, case.scale, kernel.accumulation(asked)).max()


def compute_far_rows():
    """Rows more than 2^31 elements apart, of which only what is touched takes memory."""
    stride = 2**30 + 8
    x = torch.empty(2 * stride + 64, dtype=HALF).as_strided((3, 32), (stride, 1))
    x.copy_(torch.randn(3, 32))
    weight, bias = torch.randn(16, 32).half(), None
    out = torch.empty(3, 16, dtype=HALF)
    asked = replace(Problem.contiguous(3, 16, 32, HALF), x_strides=(stride, 1), interpreted=True)
    TILED.prepare(asked, TILED.configs(asked)[0])(x, weight, bias, 2.0, out)
    return error_over_bound(out, x, weight, bias, 2.0, TILED.accumulation(asked)).max()


def main():
    results = {}
    for name, run in [
        *((str(case), lambda c=case: compute(c)) for case in CASES),
        ("far rows", compute_far_rows),
    ]:
        try:
            results[name] = float(run())
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(results))


@pytest.fixture(scope="module")
def interpreted():
    pytest.importorskip("triton", reason="interpreting a Triton kernel needs Triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*map(str, CASES), "far rows"])
def test_interpreted_result_is_within_the_bound(interpreted, name):
    result = interpreted[name]
    assert isinstance(result, float), result
    assert result <= 1


KERNEL_FILES = sorted((Path(__file__).parents[1] / "triton_kernels").glob("*.py"))


def early_returns(source: str) -> list[int]:
    """Lines of jit functions that return before their last statement."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and any("jit" in ast.unparse(each) for each in node.decorator_list)
    ]
    return [
        inner.lineno
        for function in functions
        for statement in function.body[:-1]
        for inner in ast.walk(statement)
        if isinstance(inner, ast.Return)
    ]


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[1] / "triton_kernels").glob("*.py")),
    ids=lambda p: p.stem,
)
def test_no_function_returns_early(path):
    """Triton 3.6 compiles what follows a return, although a constant decides that it never runs."""
    assert early_returns(path.read_text()) == []


def test_an_early_return_is_found():
    source = "@triton.jit\ndef f(x, C):\n    if C:\n        return x\n    return x + 1\n"
    assert early_returns(source) == [4]


def test_case_names_are_unique():
    assert len(set(map(str, CASES))) == len(CASES)


if __name__ == "__main__":
    main()
