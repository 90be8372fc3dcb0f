"""The source linter: each rule against kernels that break it, and against some that do not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fusedops.__main__ import main
from fusedops.lint import RULES, as_markdown, check_file, check_text
from fusedops.lint.rules import missing_function
from fusedops.lint.rules.block_size import is_block

ROOT = Path(__file__).parents[1]
CORPUS = Path(__file__).parent / "lint_corpus"
BAD = sorted((CORPUS / "bad").glob("*.py"))
GOOD = sorted((CORPUS / "good").glob("*.py"))
MARK = re.compile(r"# breach: ([\w-]+)")
NAMES = [rule.name for rule in RULES]


def rule_of(path):
    return path.stem.split("__")[0].replace("_", "-")


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_kernel_is_caught_for_its_own_reason_alone(path):
    marked = {
        (number, mark[1])
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (mark := MARK.search(line))
    }
    assert {rule for _, rule in marked} == {rule_of(path)}
    assert {(breach.line, breach.rule) for breach in check_file(path)} == marked


def test_every_rule_has_at_least_three_bad_kernels():
    counts = Counter(map(rule_of, BAD))
    assert set(counts) == set(NAMES)
    assert min(counts.values()) >= 3


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_kernel_is_not_flagged(path):
    assert check_file(path) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "triton_kernels").glob("*.py")), ids=lambda p: p.stem
)
def test_our_kernels_break_no_rule_and_ask_for_no_exception(path):
    assert check_file(path) == []
    # A block's partial sums are read by another block, the last to arrive.
    assert path.stem == "backward" or "fusedops: allow" not in path.read_text()


def test_the_seed_kernel_breaks_no_rule():
    assert check_file(ROOT / "benchmarks" / "seed_kernel.py") == []


# --- our kernels, broken on purpose -------------------------------------------------------------

TWICE = "store_block(out, [tile_m * BLOCK_M, tile_n * BLOCK_N], result)\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "rule"),
    [
        ("tiled", "@triton.jit\n", "", "jit"),
        ("tiled", "tiled[(programs,)]", "tiled[(problem.m // config.block_m,)]", "grid"),
        ("tiled", "tl.arange(0, BLOCK_K)", "tl.arange(0, 48)", "block-size"),
        ("tiled", "tl.program_id(0)", "tl.program_id(3)", "program-id"),
        (
            "tiled",
            "        z = tl.dot(",
            "        if k > 64:\n            break\n        z = tl.dot(",
            "loop-exit",
        ),
        ("tiled", "z = tl.dot(a, b,", "z = tl.dot(a[:, k], b,", "loop-index"),
        ("tiled", "mask=columns < N, other", "mask=x_mask, other", "mask-shape"),
        ("tiled", "x_mask & left[None, :]", "x_mask & left", ""),
        ("tiled", "x_mask & left[None, :]", "left", "mask-shape"),
        ("skinny", "left_mask & inside[:, None, :]", "inside", "mask-shape"),
        ("tiled", "    y = EPILOGUE(", "    tl.store(x_tile, z)\n    y = EPILOGUE(", "mask-shape"),
        (
            "tiled",
            "    tl.store(out + places, ",
            "    tl.store(out + places, z, mask=x_mask & weight_mask)\n    tl.store(out + places, ",
            "store-count",
        ),
        (
            "persistent_tma",
            "    if STORE_TMA:",
            "    tl.store(bias + columns, 0.0, mask=columns < N)\n    if STORE_TMA:",
            "",
        ),
        (
            "tiled",
            "    y = EPILOGUE(z,",
            "    tl.store(bias, 0.0)\n    y = EPILOGUE(z + tl.load(bias),",
            "store-load",
        ),
        ("epilogues", "tl.exp2(", "tl.tanh(", "missing-function"),
        ("pingpong", "        store_block(", f"        {TWICE}        store_block(", "store-count"),
    ],
)
def test_a_defect_put_into_our_kernels_is_caught(file, old, new, rule, tmp_path):
    folder = shutil.copytree(ROOT / "triton_kernels", tmp_path / "kernels")
    path = folder / f"{file}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    rules = {breach.rule for breach in check_file(path)}
    assert rules == ({rule} if rule else set())


# --- exceptions ---------------------------------------------------------------------------------

LAUNCH = """
import triton
import triton.language as tl

@triton.jit
def kernel(x, BLOCK: tl.constexpr):
    tl.store(x + tl.arange(0, BLOCK), 0.0)

def run(x, n):
    {above}
    kernel[(n // 64,)](x, BLOCK=64){behind}
"""


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# fusedops: allow grid whole blocks", []),
        ("# fusedops: allow grid", ["allow: it gives no reason", "grid: "]),
        (
            "# fusedops: allow grids whole blocks",
            ["allow: it names no rule: grids; known: jit", "grid: "],
        ),
        ("# fusedops: allow", ["allow: it names no rule: nothing", "grid: "]),
        ("# fusedops: allow jit because", ["allow: nothing here breaks jit", "grid: "]),
        ("# allow grid whole blocks", ["grid: "]),
    ],
)
@pytest.mark.parametrize("place", ["above", "behind"])
def test_an_exception_has_a_rule_and_a_reason(comment, found, place):
    text = LAUNCH.format(
        **{"above": "", "behind": ""} | {place: f"  {comment}"[2 * (place == "above") :]}
    )
    breaches = sorted(f"{breach.rule}: {breach.message}" for breach in check_text(text))
    assert len(breaches) == len(found), breaches
    assert all(breach.startswith(start) for breach, start in zip(breaches, found, strict=True))


# --- what the rules know ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block"),
    [
        *((each, True) for each in ("BLOCK", "BLOCK_M", "BLOCK_SIZE_K", "XBLOCK", "TILE_N", "BK")),
        *((each, False) for each in ("GROUP_M", "NUM_BLOCKS", "BLOCK_PTR", "BLOCKS", "BLOCK_ID")),
    ],
)
def test_what_is_a_block(name, block):
    assert is_block(name) is block


def test_the_known_functions_are_those_that_triton_has():
    language = pytest.importorskip("triton.language", reason="Triton is not installed")
    names = {
        name for name in vars(language) if callable(getattr(language, name)) and name[0] != "_"
    }
    assert names <= set(missing_function.NAMES.split()), "a release has more: add them to the list"


def test_reading_a_file_needs_no_triton():
    code = (
        "import sys; from pathlib import Path; from fusedops.lint import check_file; "
        f"assert check_file(Path({str(ROOT / 'triton_kernels' / 'tiled.py')!r})) == []; "
        "assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_release_with_more_functions_is_believed(monkeypatch):
    text = (CORPUS / "bad" / "missing_function__relu.py").read_text()
    assert [breach.rule for breach in check_text(text)] == ["missing-function"]
    monkeypatch.setattr(missing_function, "_has", lambda math, name: name == "relu")
    assert check_text(text) == []


# --- the command --------------------------------------------------------------------------------


def test_the_command_names_file_line_and_rule(capsys):
    path = CORPUS / "bad" / "program_id__fourth.py"
    assert main(["lint", str(path)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(re.escape(str(path)) + r":\d+: program-id: program_id\(3\): .*", line)


def test_the_command_reads_folders(capsys):
    assert main(["lint", str(CORPUS / "good"), str(ROOT / "triton_kernels")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"files: \d+, with Triton: [1-9]\d*, no rule broken", shown)
    plain = ROOT / "registry" / "select.py"
    assert main(["lint", str(plain)]) == 0
    assert "files: 1, with Triton: 0" in capsys.readouterr().out
    assert main(["lint", str(CORPUS), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {each["rule"] for each in report["breaches"]} == set(NAMES)
    assert report["files"] == len(BAD) + len(GOOD) + 1


def test_what_is_no_python_is_a_breach(tmp_path, capsys):
    path = tmp_path / "kernel.py"
    path.write_text("def kernel(:\n")
    assert main(["lint", str(path)]) == 1
    assert f"{path}:1: syntax: it is no Python" in capsys.readouterr().out


def test_a_file_that_is_no_python_source_is_no_breach(tmp_path, capsys):
    path = tmp_path / "report.md"
    path.write_text("# A report\n\nIt is slow.\n")
    assert main(["lint", str(path)]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{path} is no Python source\n")
    script = tmp_path / "script"
    script.write_text("print()\n")
    assert main(["lint", str(script)]) == 0


def test_a_file_that_cannot_be_read_is_said(tmp_path, capsys, monkeypatch):
    path = tmp_path / "kernel.py"
    path.write_text("")

    def denied(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", denied)
    assert main(["lint", str(path)]) == 2
    assert f"{path} cannot be read: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("request_", "says"),
    [([], "name files to read"), (["/nowhere.py"], "there is no file"), (["."], "no Python file")],
)
def test_nonsense_is_refused(request_, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lint", *request_]) == 2
    assert says in capsys.readouterr().err


def test_the_rules_are_those_of_the_documentation(capsys):
    assert main(["lint", "--rules"]) == 0
    printed = capsys.readouterr().out
    assert printed == as_markdown()
    assert printed in (ROOT / "docs" / "lint.md").read_text()
