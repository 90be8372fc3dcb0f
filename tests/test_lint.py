"""The source linter: every rule against kernels that break it, and none against those that do not."""

from __future__ import annotations

import json
import re
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
    assert "fusedops: allow" not in path.read_text()


def test_the_seed_kernel_breaks_no_rule():
    assert check_file(ROOT / "benchmarks" / "seed_kernel.py") == []
