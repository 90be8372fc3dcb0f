"""`python -m fusedops export`: the file's format, its code, its results, its refusals.

Run as a script it loads exported files where there is no fusedops, in Triton's interpreter, and
saves what they compute: Triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import ast
import importlib
import io
import os
import subprocess
import sys
import tokenize
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "exported"
HEADLINE = (1024, 8192, 8192)
WRAPPER = "fused_gemm_sigmoid_scale_residual"
ENTRY = f"{WRAPPER}_kernel"

SHAPES = [
    *((1, 1, 1), (5, 7, 9), (1, 8, 8), (3, 1, 200), (130, 100, 72), (77, 264, 70), (0, 24, 16)),
    *((24, 0, 16), (24, 16, 0), (129, 257, 65), (300, 24, 8), (33, 40, 130)),
]
LAYOUTS = ("rows", "columns", "wide rows", "odd address", "one row", "odd row stride")


def x_of(layout, m, k, generator):
    """x (m, k), float16, in one of the LAYOUTS."""
    wide = torch.randn(m, 2 * k + 16, generator=generator).half()
    if layout == "columns":
        return wide[:, :k].T.contiguous().T
    if layout == "wide rows":
        return wide[:, 8 : 8 + k]
    if layout == "odd row stride":
        return torch.randn(m, k + 3, generator=generator).half()[:, :k]
    if layout == "odd address":
        return torch.randn(m * k + 1, generator=generator).half()[1:].view(m, k)
    if layout == "one row":
        return wide[:1, :k].expand(m, k)
    return wide[:, :k].contiguous()


def compute(path, destination):
    """Every shape through an exported file, every configuration of its autotuner in turn."""
    sys.modules["fusedops"] = None
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel, found = getattr(module, ENTRY), []
    choices = getattr(kernel, "configs", [None])
    for index, (m, n, k) in enumerate(SHAPES):
        generator = torch.Generator().manual_seed(index)
        model = module.ModelNew(k, n, 2.0)
        assert model.weight.shape == (n, k) and model.bias.shape == (n,)
        x = x_of(LAYOUTS[index % len(LAYOUTS)], m, k, generator)
        for choice in choices:
            if choice is not None:
                kernel.configs = [choice]
            with torch.no_grad():
                y = model(x)
        single = model(x.float())
        assert (y.dtype, single.dtype) == (torch.float16, torch.float32)
        assert torch.equal(single.half(), y)
        found.append((x.contiguous(), model.weight.data, model.bias.data, y))
    torch.save(found, destination)


if __name__ == "__main__":
    compute(*sys.argv[1:])
    raise SystemExit


pytest.importorskip("triton", reason="the kernels' source is Triton's")

from fusedops import backends, tables  # noqa: E402
from fusedops.__main__ import main  # noqa: E402
from fusedops.export import choose, compiled, document  # noqa: E402
from fusedops.export.check import jit_function, load  # noqa: E402
from fusedops.export.choice import BASELINE, resident  # noqa: E402
from fusedops.export.fold import Fold  # noqa: E402
from fusedops.export.kernels import KERNELS, specialization  # noqa: E402
from fusedops.export.printer import write  # noqa: E402
from fusedops.export.source import tree  # noqa: E402
from fusedops.export.specialize import Specializer  # noqa: E402
from fusedops.export.tidy import tidy  # noqa: E402
from fusedops.lint import check_text  # noqa: E402
from fusedops.numerics import error_over_bound  # noqa: E402
from fusedops.registry import CARDS, H200, Measurement  # noqa: E402
from fusedops.triton_kernels import TILED  # noqa: E402
from fusedops.triton_kernels.config import PersistentConfig  # noqa: E402


@cache
def chosen(target="sm_90", shape=HEADLINE, dtype=torch.float16, name=None, many=False):
    return choose(shape, dtype, CARDS[target], name, many=many)


def text_of(*args, **kwargs):
    return document(chosen(*args, **kwargs))


WANTED = [
    {"target": "sm_89"},
    {"target": "sm_90"},
    {"target": "sm_89", "many": True},
    {"target": "sm_90", "many": True},
    {"target": "sm_90", "name": "triton.tiled", "dtype": torch.bfloat16},
    {"target": "sm_90", "shape": (16, 4096, 4096)},
    {"target": "sm_89", "shape": (1000, 8195, 8191), "many": True},
    {"target": "sm_90", "shape": (1000, 8195, 8192)},
]
ids = [" ".join(str(value) for value in each.values()) for each in WANTED]


# --- the text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", CARDS)
def test_the_examples_are_what_is_exported_today(target, tmp_path):
    made = tmp_path / "made.py"
    asked = ["export", "--shape", "1024x8192x8192", "--dtype", "float16", "--target", target]
    assert main([*asked, "-o", str(made)]) == 0
    kept = EXAMPLES / f"model_new_{target.replace('_', '')}.py"
    assert made.read_text() == kept.read_text(), f"python -m fusedops {' '.join(asked)} -o {kept}"


@pytest.mark.parametrize("wanted", WANTED, ids=ids)
def test_the_format_is_the_strict_one(wanted):
    text = text_of(**wanted)
    body = ast.parse(text).body
    *imports, first = [ast.unparse(each) for each in body[:5]]
    wide = [
        "import torch",
        "import torch.nn as nn",
        "import triton",
        "import triton.language as tl",
    ]
    assert imports == wide
    assert first.startswith("@triton.jit")
    assert not [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
    ] and text.count("import ") == len(wide)
    *functions, model = body[4:]
    assert all(isinstance(each, ast.FunctionDef) for each in functions)
    assert isinstance(model, ast.ClassDef) and model.name == "ModelNew"
    assert [each.arg for each in model.body[1].args.args[1:]] == [
        *("input_size", "hidden_size", "scaling_factor")
    ]
    assert max(map(len, text.splitlines())) <= 100
    for word in ("__main__", "get_inputs", "get_init_inputs", "noqa", "z_out", "EPILOGUE"):
        assert word not in text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    about = next(token for token in tokens if token.type == tokenize.COMMENT)
    assert about.start == (1, 0) and "fusedops" not in text.replace(about.string, "")


@pytest.mark.parametrize("wanted", WANTED, ids=ids)
def test_the_linter_finds_nothing(wanted):
    assert check_text(text_of(**wanted)) == []


@pytest.mark.parametrize("wanted", WANTED, ids=ids)
def test_one_store(wanted):
    text = text_of(**wanted)
    assert text.count("tl.store(") + text.count("out.store(") == 1


@pytest.mark.parametrize("target", CARDS)
def test_the_autotuner_has_at_most_four_with_the_baseline(target):
    for shape in (HEADLINE, (16, 4096, 4096), (65536, 1024, 1024), (1, 1, 1)):
        choice = chosen(target, shape, many=True)
        assert 1 < len(choice.configs) <= 4
        assert len(set(choice.configs)) == len(choice.configs)
        assert choice.configs[0] == chosen(target, shape).configs[0]
        assert any(
            {name: getattr(each, name) for name in BASELINE} == BASELINE for each in choice.configs
        )
        assert not any(each.why_invalid(choice.problem) for each in choice.configs)
        assert document(choice).count("triton.Config(") == len(choice.configs)


def test_the_choice_is_the_registrys():
    assert chosen("sm_90").kernel.name == "triton.persistent_tma"
    assert "measured" in chosen("sm_90").why
    assert chosen("sm_90", shape=(1000, 8195, 8192)).kernel.name == "triton.tiled"
    assert chosen("sm_89").kernel.name == "triton.tiled"


def test_a_table_of_the_users_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSEDOPS_TABLES", str(tmp_path))
    config = "64x128x64_w4_s3_g16"
    row = Measurement(*HEADLINE, "float16", "triton.tiled", config, 1.0, "tests")
    tables.apply([row], H200.name, H200.capability)
    try:
        choice = choose(HEADLINE, torch.float16, H200, None, many=True)
    finally:
        tables.forget()
    assert (choice.kernel.name, str(choice.configs[0])) == ("triton.tiled", config)
    assert f"# triton.tiled {config}: " in document(replace(choice, configs=choice.configs[:1]))


# --- from the kernels' own source ---------------------------------------------------------------


def test_the_printer_writes_what_it_read():
    for module in ("tiled", "persistent_tma", "products", "order", "epilogues", "slope", "skinny"):
        functions = vars(importlib.import_module(f"fusedops.triton_kernels.{module}")).values()
        for function in functions:
            if hasattr(function, "fn") and hasattr(function, "arg_names"):
                definition = tree(function)
                printed = ast.parse("\n".join(write(definition))).body[0]
                assert ast.dump(printed) == ast.dump(definition)


NAMES = st.sampled_from(
    ["accumulator", "b", "tl.arange(0, BLOCK_M)", "'a (text'", "8", "tile[:, None]"]
)
EXPRESSIONS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6).map(lambda parts: f"function({', '.join(parts)})"),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: f"({' + '.join(parts)})"),
        st.lists(inner, min_size=1, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
        inner.map(lambda part: f"function(keyword={part})"),
    ),
    max_leaves=40,
)


@given(
    EXPRESSIONS,
    st.sampled_from(["name = {}", "name += {}", "return {}", "for name in {}:\n  pass"]),
)
def test_a_line_of_any_length_stays_what_it_was(expression, statement):
    module = ast.parse(f"def function():\n {statement.format(expression)}")
    lines = list(write(module.body[0]))
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(module)


OPERANDS = st.sampled_from(["A", "B", "3", "7", "x"])
ARITHMETIC = st.recursive(
    OPERANDS,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "<", "==", "!="]), inner).map(
        lambda parts: f"({' '.join(parts)})"
    ),
    max_leaves=8,
)


@given(
    st.lists(ARITHMETIC, min_size=2, max_size=4),
    st.integers(-3, 9),
    st.integers(1, 5),
    st.integers(),
)
def test_folding_changes_no_result(expressions, a, b, x):
    test, *values = expressions
    lines = ["def function(x, A, B):", f" if {test}:", f"  LOCAL: int = {values[0]}"]
    lines += [
        " else:",
        f"  LOCAL: int = {values[-1]}",
        " FACTOR: int = A * B",
        " return LOCAL * FACTOR - x // B",
    ]
    definition = ast.parse("\n".join(lines)).body[0]
    expected = run(definition, x, a, b)
    Fold({"A": ast.Constant(a), "B": ast.Constant(b)}, set()).visit(definition)
    tidy(definition)
    assert {each.arg for each in definition.args.args} <= {"x"}
    assert run(definition, *([x] if definition.args.args else [])) == expected


def run(definition, *values):
    names = {}
    exec(ast.unparse(ast.fix_missing_locations(definition)), names)
    return names["function"](*values)


def test_what_is_exported_compiles_to_the_kernels_own_instructions(tmp_path):
    """Of triton.tiled, which takes pointers in both places."""
    from fusedops.lint.machine import sass
    from fusedops.lint.machine.tools import dump

    for target in CARDS:
        choice = chosen(target, name="triton.tiled")
        path = tmp_path / f"{target}.py"
        path.write_text(document(choice))
        own = specialization("triton.tiled", choice.problem, choice.configs[0])
        function = jit_function(load(path))
        names = set(function.arg_names)
        alone = replace(
            own,
            function=function,
            types={name: kind for name, kind in own.types.items() if name in names},
            constants={name: value for name, value in own.constants.items() if name in names},
        )
        codes = [
            next(iter(sass.instructions(dump(each.asm["cubin"], "-sass")).values()))
            for each in (
                own.compile(CARDS[target].capability),
                alone.compile(CARDS[target].capability),
            )
        ]
        assert codes[0] == codes[1]


def test_a_function_is_written_once_for_each_choice_of_its_constants():
    choice = chosen("sm_90")
    quarters = replace(choice.configs[0], pieces=4)
    text = document(replace(choice, configs=(quarters,)))
    assert text.count("def store_pieces(") == text.count("def store_pieces_2(") == 1
    assert text.count("def store(") == 1
    assert "BLOCK_N // 4]" in text
    whole = document(replace(choice, configs=(replace(choice.configs[0], pieces=1),)))
    assert "store_pieces" not in whole and "BLOCK_N // " not in whole


def test_constants_decide_branches_and_what_they_leave_is_tidied():
    from fusedops.triton_kernels.products import multiply_add
    from fusedops.triton_kernels.tiled import tiled

    specializer = Specializer()
    specializer.entry(multiply_add, {"PRECISION": "tf32x3"}, set(), "product")
    names = [each.name for each in specializer.functions]
    assert names == ["high_part", "tf32x3", "product"]
    assert list(write(specializer.functions[-1]))[-1] == "    return tf32x3(a, b, z, a, b)"

    constants = dict(specialization("triton.tiled", *problem_and_config()).constants)
    with_z = {name: value for name, value in constants.items() if name != "z_out"}
    specializer = Specializer()
    specializer.entry(tiled, with_z, {"z_out"}, "kernel")
    assert "\n".join(write(specializer.functions[-1])).count("tl.store(") == 2


def problem_and_config():
    choice = chosen("sm_89")
    return choice.problem, choice.configs[0]


# --- the machine code ---------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", WANTED[:4] + WANTED[5:6], ids=ids[:4] + ids[5:6])
def test_it_compiles_for_its_target_and_breaks_no_rule(wanted):
    choice = chosen(**wanted)
    found = list(compiled(document(choice), choice))
    assert [each.config for each in found] == [str(each) for each in choice.configs]
    assert [each.breaches for each in found] == [()] * len(found)


@pytest.mark.parametrize(
    ("target", "old", "new", "says"),
    [
        (
            "sm_90",
            "descriptor(out_ptr",
            "descriptor(weight_ptr",
            ["comes from weight_ptr", "to out_ptr"],
        ),
        (
            "sm_90",
            "    out.store(",
            "    out.store([row, column], y.to(out.dtype))\n    out.store(",
            ["65536"],
        ),
        ("sm_89", "tl.store(out + places", "tl.store(x + places", ["comes from x", "to out"]),
        (
            "sm_89",
            "    tl.store(",
            "    tl.store(out + places, z.to(tl.float16))\n    tl.store(",
            ["32768"],
        ),
        (
            "sm_89",
            "z = tl.dot(a, b, z",
            "z = tl.dot(a.to(tl.float32), b.to(tl.float32), z",
            ["no HMMA"],
        ),
    ],
)
def test_a_defect_in_the_file_is_caught(target, old, new, says):
    text = text_of(target)
    assert old in text
    (found,) = compiled(text.replace(old, new), chosen(target))
    breaches = " ".join(found.breaches)
    assert all(each in breaches for each in says), breaches


def test_programs_of_a_multiprocessor():
    problem = chosen("sm_90").problem
    wide, narrow = chosen("sm_90").configs[0], PersistentConfig(128, 128, 64, 4, 3, pieces=4)
    assert (resident(problem, wide), resident(problem, narrow)) == (1, 2)
    narrow_file = document(replace(chosen("sm_90"), configs=(narrow,)))
    assert "min(tiles, 2 * multiprocessors)" in narrow_file


# --- the results --------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", WANTED[:4], ids=ids[:4])
def test_it_computes_the_operator_where_there_is_no_fusedops(wanted, tmp_path):
    path, results = tmp_path / "model_new.py", tmp_path / "results.pt"
    path.write_text(text_of(**wanted))
    subprocess.run(
        [sys.executable, "-I", __file__, str(path), str(results)],
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=tmp_path,
    )
    computed = torch.load(results)
    assert len(computed) == len(SHAPES)
    accumulation = TILED.accumulation(chosen(**wanted).problem)
    for (m, n, _), (x, weight, bias, y) in zip(SHAPES, computed, strict=True):
        assert y.shape == (m, n) and y.is_contiguous()
        if y.numel():
            assert error_over_bound(y, x, weight, bias, 2.0, accumulation).max() <= 1


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "model_new.py"
    for target in CARDS:
        path.write_text(text_of(target))
        wrapper = getattr(load(path), WRAPPER)
        x, weight, bias = torch.ones(2, 8), torch.ones(4, 8), torch.ones(4)
        with pytest.raises(TypeError, match=r"not torch\.float32"):
            wrapper(x, weight, bias, 2.0)
        for wrong in ((x[:, :7], weight, bias), (x, weight, bias[:3])):
            with pytest.raises(ValueError, match="do not fit"):
                wrapper(*wrong, 2.0)
        with pytest.raises(ValueError, match="32 bits"):
            wrapper(*(torch.empty(each, 2**31, device="meta").half() for each in (1, 4)), bias, 2.0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_on_a_card_it_gives_the_bits_of_the_kernel_itself(name, dtype, tmp_path):
    import fusedops

    capability = torch.cuda.get_device_capability()
    target = "sm_{}{}".format(*capability)
    if target not in CARDS or (name == "triton.persistent_tma" and target == "sm_89"):
        pytest.skip(f"nothing is exported for {name} on {target}")
    path = tmp_path / "model_new.py"
    path.write_text(text_of(target, (300, 512, 1024), dtype, name))
    module = load(path)
    for m, n, k in ((300, 512, 1024), (1, 512, 1024), (77, 264, 1000)):
        x, weight, bias = (
            torch.randn(*size, device="cuda").to(dtype) for size in ((m, k), (n, k), (n,))
        )
        y = getattr(module, WRAPPER)(x, weight, bias, 2.0)
        accumulation = TILED.accumulation(chosen(target, dtype=dtype).problem)
        assert error_over_bound(y, x, weight, bias, 2.0, accumulation).max() <= 1
        if (m, n, k) == (300, 512, 1024):
            assert torch.equal(y, fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=name))


# --- the command --------------------------------------------------------------------------------

ASKED = ["export", "--shape", "1024x8192x8192", "--target", "sm_89"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--kernel", "triton.pingpong"], "written in Gluon"),
        (["--kernel", "triton.skinny"], "takes few rows"),
        (["--kernel", "torch.reference"], "not written in Triton"),
        (["--kernel", "nothing"], "unknown kernel 'nothing'; known: triton.tiled"),
        (["--kernel", "triton.persistent_tma"], "compute capability is 8.9; for TMA"),
        (["--dtype", "float32"], "the weight would be float32"),
        (["-o", "/nowhere/at/all.py"], "/nowhere/at/all.py cannot be written: No such file"),
    ],
)
def test_the_command_refuses_in_words(more, says, capsys, tmp_path):
    made = tmp_path / "made.py"
    assert main([*ASKED, "-o", str(made), *more]) == 2
    assert says in capsys.readouterr().err
    assert not made.exists()


def test_a_named_kernel_that_cannot_run_is_what_the_refusal_speaks_of(capsys, tmp_path):
    asked = [*ASKED, "-o", str(tmp_path / "made.py"), "--kernel", "triton.persistent_tma"]
    assert main(asked) == 2
    first, *_, remedy = capsys.readouterr().err.splitlines()
    assert first.startswith("triton.persistent_tma cannot run gemm_sig_res: x (1024, 8192)")
    assert remedy == "Remedy: name triton.tiled, or no kernel"


def test_a_ragged_result_is_no_tensor_maps(capsys, tmp_path):
    asked = [
        "export",
        "--shape",
        "64x1001x64",
        "--target",
        "sm_90",
        "-o",
        str(tmp_path / "made.py"),
    ]
    assert main([*asked, "--kernel", "triton.persistent_tma"]) == 2
    assert "N is 1001" in capsys.readouterr().err
    assert main(asked) == 0


def test_an_unknown_target_is_a_usage_error(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--shape", "1x1x1", "--target", "sm_70", "-o", "x"])
    assert "'sm_70'" in capsys.readouterr().err


def test_without_triton_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(backends, "missing", lambda: {"triton": "Triton is not installed: pip"})
    assert main([*ASKED, "-o", "x"]) == 2
    assert "Triton is not installed" in capsys.readouterr().err


def test_a_file_that_breaks_a_rule_is_not_written(monkeypatch, capsys, tmp_path):
    from fusedops.cli import export

    made = tmp_path / "made.py"
    broken = text_of("sm_89").replace("tl.program_id(0)", "tl.program_id(3)")
    monkeypatch.setattr(export, "document", lambda choice: broken)
    monkeypatch.setattr(export, "compiled", lambda text, choice: iter(()))
    assert main([*ASKED, "-o", str(made)]) == 1
    assert "program-id" in capsys.readouterr().out
    assert not made.exists()


def test_what_cannot_be_compiled_is_written_and_said(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    made = tmp_path / "made.py"
    assert main([*ASKED, "-o", str(made)]) == 0
    assert "not compiled: TRITON_INTERPRET is set" in capsys.readouterr().out
    assert made.exists()
