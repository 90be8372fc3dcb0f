"""The compiled linter: our kernels pass, and what each rule is for is caught."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from fusedops import backends
from fusedops.__main__ import main
from fusedops.lint.machine import check_kernel, cuda_programs, ptx, sass, tools, triton_programs
from fusedops.lint.machine.program import Program
from fusedops.lint.machine.tools import Unchecked
from fusedops.registry import CARDS, Problem
from fusedops.triton_kernels import KERNELS, TILED
from fusedops.triton_kernels.config import TiledConfig

TESTS = Path(__file__).parent
CARD = CARDS["sm_89"]
BLOCK = 64


def load(path):
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("target", CARDS)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_our_triton_kernels_pass(kernel, target, dtype):
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    try:
        found = check_kernel(kernel, CARDS[target], dtype=dtype)
    except Unchecked as refusal:
        assert kernel.why_not(problem_of(kernel, target, dtype))
        pytest.skip(str(refusal))
    assert found.breaches == ()
    assert found.notes == ()
    assert found.programs


def problem_of(kernel, target, dtype):
    m = 16 if "skinny" in kernel.name else 1024
    return Problem.contiguous(m, 4096, 4096, dtype, bias_dtype=dtype, card=CARDS[target])


@pytest.mark.parametrize("target", CARDS)
def test_our_compiled_kernels_pass(target):
    kernels = [each for each in backends.kernels() if each.backend == "cuda"]
    if not kernels:
        pytest.skip("the CUDA C++ backend was not built: there is no library to read")
    checked = 0
    for kernel in kernels:
        try:
            found = check_kernel(kernel, CARDS[target])
        except Unchecked as refusal:
            assert "capability" in str(refusal) or "has no code" in str(refusal)
            continue
        assert found.breaches == ()
        checked += found.programs
    assert checked


def test_every_instance_has_its_function_in_the_library():
    """Found by name, so a change of the names must not pass unnoticed."""
    code = {}
    if not cuda_programs.LIBRARY.exists():
        pytest.skip("the CUDA C++ backend was not built: there is no library to read")
    for target in CARDS:
        code.update(cuda_programs._machine_code(target)[0])
    kernels = [each for each in backends.kernels() if each.backend == "cuda"]
    instances = [each for kernel in kernels for each in kernel.why_not.args[0]]
    names = [cuda_programs.entry_name(each.kernel, each.label, list(code)) for each in instances]
    assert None not in names
    assert len(set(names)) == len(names)


# --- mutations ----------------------------------------------------------------------------------


@cache
def mutant(name: str) -> Program:
    """A kernel of the corpus, compiled for an RTX 4090."""
    from fusedops.triton_kernels.launch import Specialization

    special = Specialization(
        function=getattr(load(TESTS / "lint_corpus" / "compiled.py"), name),
        types=dict.fromkeys(("x", "weight", "out"), "*fp16"),
        constants={"BLOCK": BLOCK},
        divisors={},
        num_warps=4,
        num_stages=2,
    )
    compiled = special.compile(CARD.capability)
    return triton_programs.program(name, special, compiled, "mma", BLOCK * BLOCK)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("right", []),
        ("stores_twice", ["global-stores: its stores write 8192 elements"]),
        (
            "stores_to_an_input",
            ["global-stores: an address that is stored to comes from x", "8192"],
        ),
        ("stores_to_an_input_alone", ["comes from x", "nothing is stored to out"]),
        ("stores_by_an_address_in_memory", ["from an address in memory", "nothing is stored to"]),
        ("adds_atomically", ["no store to global memory", "atomic operations"]),
        ("without_tensor_cores", ["tensor-cores: no HMMA"]),
    ],
)
def test_a_defect_is_caught_for_its_own_reason(name, says):
    found = [str(breach) for breach in mutant(name).breaches()]
    assert len(found) == len(says), found
    for breach, part in zip(
        sorted(found), sorted(says, key=lambda s: order(found, s)), strict=True
    ):
        assert part in breach


def order(found, part):
    """Where a breach that says so stands among the sorted ones."""
    return next((index for index, each in enumerate(sorted(found)) if part in each), -1)


def test_registers_that_spill_are_caught():
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    from fusedops.triton_kernels import tiled

    problem = Problem.contiguous(1024, 8192, 8192, torch.float16, card=CARD)
    config = TiledConfig(128, 256, 32, 4, 2)
    assert config.why_invalid(problem), "which is why the kernel does not offer it"
    special = tiled.specialization(problem, config)
    compiled = special.compile(CARD.capability)
    program = triton_programs.program("wide", special, compiled, "mma", 128 * 256)
    rules = {breach.rule for breach in program.breaches()}
    assert rules == {"spills"}


@pytest.mark.parametrize("target", CARDS)
def test_the_seed_kernel_passes(target):
    """docs/lint.md has the figures."""
    for figures in seed_figures(target):
        assert figures["breaches"] == []


def seed_figures(target):
    """What is known of each of the seed's configurations, compiled: also for the documentation."""
    from fusedops.triton_kernels.launch import Specialization

    seed = load(TESTS.parent / "benchmarks" / "seed_kernel.py")
    tuned = seed.fused_gemm_sigmoid_scale_residual_kernel
    pointers = dict.fromkeys(("a_ptr", "b_ptr", "bias_ptr", "c_ptr"), "*fp16")
    integers = [name for name in tuned.fn.arg_names if name.isupper() and len(name) == 1]
    strides = [name for name in tuned.fn.arg_names if name.startswith("stride")]
    unit = {"stride_ak": 1, "stride_bk": 1, "stride_cn": 1}
    for config in tuned.configs:
        special = Specialization(
            function=tuned.fn,
            types={
                **pointers,
                **dict.fromkeys([*integers, *strides], "i32"),
                "scaling_factor": "fp32",
            },
            constants={**config.kwargs, **unit},
            divisors=dict.fromkeys([*pointers, *integers, *strides], 16),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )
        compiled = special.compile(CARDS[target].capability)
        size = config.kwargs["BLOCK_M"] * config.kwargs["BLOCK_N"]
        wgmma = target == "sm_90" and config.kwargs["BLOCK_M"] >= 64
        program = triton_programs.program(
            "seed", special, compiled, "wgmma" if wgmma else "mma", size, ("c_ptr",)
        )
        resources = tools.dump(compiled.asm["cubin"], "--dump-resource-usage")
        yield {
            "config": str(config),
            "breaches": [str(each) for each in program.breaches()],
            "registers": tools.resources(resources)[compiled.metadata.name]["REG"],
            "shared": compiled.metadata.shared,
            "stores": program.instructions["STG"],
        }


# --- reading machine code -----------------------------------------------------------------------


def test_an_address_is_traced_through_arithmetic_and_branches():
    entry = ptx.entries(
        """
.visible .entry kernel(
  .param .u64 kernel_param_0, .param .u64 kernel_param_1, .param .align 8 .b8 kernel_param_2[32]
)
{
  ld.param.u64 %rd1, [kernel_param_0];
  ld.param.u64 %rd2, [kernel_param_1];
  mov.b64 %rd3, kernel_param_2;
  add.s64 %rd4, %rd3, 8;
  ld.param.u64 %rd5, [%rd4+16];
  cvta.to.global.u64 %rd6, %rd5;
  mov.u64 %rd7, %rd1;
  @%p1 bra $L2;
$L1:
  mov.u64 %rd7, %rd2;
$L2:
  mad.wide.s32 %rd8, %r1, 2, %rd7;
  @%p2 st.global.v4.b32 [ %rd8 + 16 ], { %r2, %r3, %r4, %r5 };
  st.global.u32 [%rd6], %r2;
  ld.global.u64 %rd9, [%rd6];
  st.global.u32 [%rd9], %r2;
}
"""
    )["kernel"]
    found = [entry.origins(each.address) for each in entry.select(ptx.STORES)]
    assert found[0] == {("kernel_param_0", 0), ("kernel_param_1", 0)}
    assert found[1] == {("kernel_param_2", 24)}
    assert found[2] == {(ptx.MEMORY, 0)}
    assert entry.converted() == {("kernel_param_2", 24)}


def test_instructions_are_counted_by_function():
    code = sass.instructions(
        """
\t\tFunction : one
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 STG.E.128 desc[UR4][R2.64], R4 ;
\t\tFunction : two
        /*0000*/              @UP1 UTMASTG.2D [UR8], [UR4] ;
        /*0010*/                   STL [R1], R4 ;
"""
    )
    assert code == {"one": {"LDC": 1, "STG": 1}, "two": {"UTMASTG": 1, "STL": 1}}


# --- the command --------------------------------------------------------------------------------


def test_the_command_says_what_it_checked(capsys):
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    asked = [
        "lint",
        "--compiled",
        "triton.tiled",
        "--dtype",
        "bfloat16",
        "--shape",
        "1024x8192x8192",
    ]
    problem = problem_of(TILED, "sm_89", torch.bfloat16)
    programs = sum(len(TILED.configs(replace(problem, writes_z=z))) for z in (False, True))
    assert main(asked) == 0
    assert f"triton.tiled: {programs} programs, no rule broken" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {"breaches": [], "programs": {"triton.tiled": programs}, "unchecked": {}}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (["--compiled", "triton.pingpong"], "not checked: the card's compute capability is 8.9"),
        (["--compiled", "torch.reference"], "not checked: torch.reference is no code for a card"),
        (["--compiled", "nothing"], "unknown kernel 'nothing'"),
        (["--compiled", "all", "x.py"], "name files to read, or a kernel"),
    ],
)
def test_what_cannot_be_checked_is_said(request_, says, capsys):
    assert main(["lint", *request_]) == 2
    shown = capsys.readouterr()
    assert says in shown.out + shown.err


def test_a_missing_tool_is_named(monkeypatch, capsys):
    pytest.importorskip("triton", reason="compiling a Triton kernel needs Triton")
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    monkeypatch.setattr(tools, "TOOLKIT", Path("/nowhere"))
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    tools.find.cache_clear()
    try:
        assert main(["lint", "--compiled", "triton.tiled", "--dtype", "bfloat16"]) == 2
        assert "cuobjdump is missing" in capsys.readouterr().out
    finally:
        tools.find.cache_clear()
