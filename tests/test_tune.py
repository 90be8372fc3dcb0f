"""The tuner's parts, and whole runs: for a card that is not here, and on the card that is."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusedops import backends, native, reference
from fusedops.__main__ import main
from fusedops.registry import (
    H200,
    RTX_4090,
    Accumulation,
    Choice,
    Kernel,
    Measurement,
    Problem,
    Space,
    Table,
)
from fusedops.tune import card, figures, header, judge, occupancy, plan, rules, session, work
from fusedops.tune.neighbours import Map
from fusedops.tune.occupancy import Compiled
from fusedops.tune.pool import Pool
from fusedops.tune.progress import Lines
from fusedops.tune.rows import rows
from fusedops.tune.rules import CONSERVATIVE, Facts, Setting
from fusedops.tune.search import most_trials
from fusedops.tune.trial import ADOPTED, Resources, Session

CPU = torch.device("cpu")


def resources(registers, limiter="shared memory", local_bytes=0):
    return Resources(registers, local_bytes, 1024, 128, 2, limiter, 0.25)


def facts(registers=100, limiter="shared memory", local_bytes=0, loads=2, setting=CONSERVATIVE):
    return Facts(resources(registers, limiter, local_bytes), loads, setting)


# Occupancy


def instances():
    catalogue = native.catalogue()
    return [] if catalogue is None else list(catalogue.instances())


@pytest.mark.skipif(not instances(), reason="the CUDA kernels were not built")
def test_occupancy_is_what_nvidias_own_calculator_says_of_every_instance():
    for instance in instances():
        for built in instance.resources:
            shared = instance.shared_memory + built["static_shared"]
            compiled = Compiled(built["registers"], 0, shared, instance.threads)
            capability = int(built["arch"][3]), int(built["arch"][4])
            found = occupancy.resources(compiled, capability)
            expected = built["occupancy_blocks"], built["limiter"].replace("warps", "threads")
            assert (found.blocks, found.limiter) == expected, instance.label


@pytest.mark.parametrize(
    ("compiled", "capability", "blocks", "limiter", "share"),
    [
        (Compiled(32, 0, 0, 128), (8, 9), 12, "threads", 1.0),
        (Compiled(32, 0, 0, 32), (8, 9), 24, "blocks", 0.5),
        (Compiled(32, 0, 0, 32), (9, 0), 32, "blocks", 0.5),
        (Compiled(128, 0, 0, 128), (8, 9), 4, "registers", 1 / 3),
        (Compiled(129, 0, 0, 128), (9, 0), 3, "registers", 3 / 16),
        (Compiled(255, 0, 0, 256), (9, 0), 1, "registers", 1 / 8),
        (Compiled(64, 0, 49152, 128), (8, 9), 2, "shared memory", 1 / 6),
        (Compiled(64, 0, 101376, 128), (8, 9), 1, "shared memory", 1 / 12),
        (Compiled(64, 0, 101377, 128), (8, 9), 0, "shared memory", 0.0),
        (Compiled(255, 0, 0, 1024), (9, 0), 0, "registers", 0.0),
        (Compiled(96, 0, 0, 32), (9, 0), 20, "registers", 20 / 64),  # 5 in each of 4 partitions
    ],
)
def test_known_occupancies(compiled, capability, blocks, limiter, share):
    found = occupancy.resources(compiled, capability)
    assert (found.blocks, found.limiter) == (blocks, limiter)
    assert found.occupancy == pytest.approx(share, abs=1e-4)


def test_an_unknown_card_has_no_occupancy():
    with pytest.raises(LookupError, match=r"7\.5"):
        occupancy.resources(Compiled(32, 0, 0, 128), (7, 5))


# Rules


def test_low_registers():
    """Below 96 and no spill: 8 warps, 3 stages."""
    advice = rules.low_registers(facts(95))
    assert advice is not None and "95 registers, below 96" in advice.because
    assert advice.settings == (Setting(8, 2), Setting(4, 3), Setting(8, 3))
    assert rules.low_registers(facts(96)) is None
    assert rules.low_registers(facts(40, local_bytes=4)) is None
    assert rules.low_registers(facts(40, setting=Setting(8, 3))).settings == ()


def test_high_registers():
    """Above 128, or what limits the blocks: 4 warps, 2 stages."""
    wide = Setting(8, 3)
    advice = rules.high_registers(facts(129, setting=wide))
    assert advice is not None and "129 registers, above 128" in advice.because
    assert advice.settings == (CONSERVATIVE,)
    assert rules.high_registers(facts(128, setting=wide)) is None
    limited = rules.high_registers(facts(100, "registers", setting=wide))
    assert limited is not None and limited.settings == (CONSERVATIVE,)
    assert "registers limit a multiprocessor to 2 blocks" in limited.because


def test_many_loads():
    """Three or more: 2 stages, and 4 warps."""
    advice = rules.many_loads(facts(loads=3, setting=Setting(8, 3)))
    assert advice is not None and "3 distinct loads" in advice.because
    assert advice.settings == (CONSERVATIVE, Setting(8, 2), Setting(4, 3))
    assert rules.many_loads(facts(loads=2)) is None


@given(st.integers(1, 255), st.booleans(), st.integers(0, 16), st.integers(1, 5))
def test_a_round_has_at_most_four_settings_the_conservative_one_among_them(
    registers, limited, warps, stages
):
    for loads in (2, 3):
        limiter = "registers" if limited else "threads"
        now = facts(registers, limiter, loads=loads, setting=Setting(warps, stages))
        wanted = rules.next_round(rules.advice(now))
        assert CONSERVATIVE in wanted and len(wanted) <= 4
        assert {each.warps for each in wanted} <= {4, 8}
        assert {each.stages for each in wanted} <= {2, 3}
        assert all(wanted.values())


def test_a_round_of_many_wishes_is_cut_short():
    wishes = [Setting(warps, stages) for warps in (2, 8, 16) for stages in (2, 3)]
    wanted = rules.next_round([rules.Advice("many", "of them", tuple(wishes))])
    assert list(wanted) == [CONSERVATIVE, *wishes[:3]]


def test_distinct_loads():
    plain = Problem.contiguous(8, 8, 8, torch.float16)
    assert rules.distinct_loads(plain) == 2
    assert rules.distinct_loads(replace(plain, bias_dtype=torch.float16)) == 3
    gradient = plan.problem_on(H200, (8, 8, 8), torch.float16, backward_kernel())
    assert rules.distinct_loads(gradient) == 2


def backward_kernel():
    return next(each for each in backends.backward_kernels() if each.name == "triton.backward")


# Judging


def test_a_gain_below_two_percent_is_reverted():
    slow = [100.0] * 15
    found = judge.compare([98.1] * 15, slow)
    assert judge.verdict(found)[0] == "reverted"
    assert judge.verdict(judge.compare([97.9] * 15, slow))[0] == ADOPTED


def test_a_gain_within_the_noise_is_reverted():
    incumbent = [100.0] * 15
    scattered = [100.0 * (1 + 0.01 * (each - 10)) for each in range(15)]  # median -3 %
    found = judge.compare(scattered, incumbent)
    assert found.gain == pytest.approx(0.03)
    assert found.noise > 0.03
    decided, why = judge.verdict(found)
    assert decided == "reverted" and "within the noise" in why


def test_drift_of_the_clock_is_no_noise():
    drift = [1 + 0.02 * each for each in range(15)]
    found = judge.compare([97 * each for each in drift], [100 * each for each in drift])
    assert found.noise == pytest.approx(0, abs=1e-12)
    assert judge.verdict(found)[0] == ADOPTED


# Spaces


CASES = list(
    product(
        (H200, RTX_4090),
        ((1024, 8192, 8192), (16, 4096, 4096), (777, 1000, 136)),
        (torch.float16, torch.bfloat16, torch.float32),
    )
)


@pytest.mark.parametrize(("card", "shape", "dtype"), CASES)
def test_every_configuration_of_a_space_is_valid_and_found_by_its_name(card, shape, dtype):
    problem = Problem.contiguous(*shape, dtype, bias_dtype=dtype, card=card)
    for kernel in backends.kernels():
        if kernel.why_not(problem):
            continue
        space = kernel.tuned_over(problem)
        own = kernel.configs(problem)
        assert space.configs[: len(own)] == own
        names = [str(config) for config in space.configs]
        assert len(set(names)) == len(names)
        parameters = [tuple(sorted(space.parameters(each).items())) for each in space.configs]
        if kernel.backend == "triton":
            assert not any(each.why_invalid(problem) for each in space.configs)
            assert len(set(parameters)) == len(parameters)
            for config in space.configs[len(own) :]:
                assert kernel.config_named(problem, str(config)) == config


def test_a_space_has_the_blocks_warps_and_stages_that_the_kernel_says_are_valid():
    problem = Problem.contiguous(
        4096, 4096, 4096, torch.float16, bias_dtype=torch.float16, card=H200
    )
    (tiled,) = (each for each in backends.kernels() if each.name == "triton.tiled")
    space = tiled.tuned_over(problem)
    some = space.configs[0]
    sides = (16, 32, 64, 128, 256)
    names = {str(each) for each in space.configs}
    for m, n, k, warps, stages, group in product(sides, sides, sides, (4, 8), (2, 3), (8, 16)):
        config = type(some)(m, n, k, warps, stages, group)
        assert (str(config) in names) == (not config.why_invalid(problem))


def test_what_a_kernel_calls_invalid_is_said_in_its_words():
    problem = Problem.contiguous(4096, 4096, 4096, torch.float16, card=H200)
    (tiled,) = (each for each in backends.kernels() if each.name == "triton.tiled")
    map_ = Map(tiled.tuned_over(problem))
    found, why = map_.with_setting("128x256x64_w8_s3_g8", CONSERVATIVE)
    assert found is None
    assert "its accumulator takes 256 registers" in why


def test_operands_that_are_not_read_along_k_keep_to_the_candidates():
    problem = Problem.contiguous(512, 512, 512, torch.float16, card=H200)
    scattered = replace(problem, x_strides=(1, 512))
    (tiled,) = (each for each in backends.kernels() if each.name == "triton.tiled")
    assert tiled.tuned_over(scattered).configs == tiled.configs(scattered)
    assert tiled.config_named(problem, "256x64x32_w8_s2_g8") is not None
    assert tiled.config_named(scattered, "256x64x32_w8_s2_g8") is None


def test_a_table_may_name_what_only_a_search_finds():
    problem = Problem.contiguous(1024, 8192, 8192, torch.float16, card=H200)
    (tiled,) = (each for each in backends.kernels() if each.name == "triton.tiled")
    name = "256x64x32_w8_s2_g8"
    assert name not in map(str, tiled.configs(problem))
    row = Measurement(1024, 8192, 8192, "float16", tiled.name, name, 1.0)
    invalid = replace(row, config="256x256x256_w4_s3_g8", microseconds=0.5)
    unknown = replace(row, config="nonsense", microseconds=0.5)
    table = Table(H200.name, H200.capability, (invalid, unknown, row))
    (prediction,) = table.predict(problem, [tiled])
    assert str(prediction.config) == name
    (near,) = table.predict(replace(problem, m=2048, x_strides=(8192, 1)), [tiled])
    assert str(near.config) == name


# For a card that is not here


def test_figures_of_triton_without_a_card():
    problem = Problem.contiguous(1024, 4096, 4096, torch.float16, card=RTX_4090)
    (tiled,) = (each for each in backends.kernels() if each.name == "triton.tiled")
    config = next(c for c in tiled.tuned_over(problem).configs if str(c) == "64x64x64_w4_s2_g8")
    found = figures.of_target(tiled, problem, config)
    assert 32 <= found.registers <= 255
    assert found.local_bytes == 0 and found.threads == 128
    assert 0 < found.shared_bytes <= config.shared_memory(problem)
    assert found == occupancy.resources(
        Compiled(found.registers, 0, found.shared_bytes, 128), RTX_4090.capability
    )


def tune(tmp_path, *arguments, out="out"):
    folder = tmp_path / out
    status = main(["tune", "--out", str(folder), "--jobs", "1", *arguments])
    path = folder / "session.json"
    return status, Session.read(path) if path.exists() else None


def test_for_a_target_candidates_are_compiled_and_one_is_chosen(tmp_path, capsys):
    arguments = ("--shape", "8x512x512", "--kernel", "triton.skinny", "--dtype", "float16")
    status, found = tune(tmp_path, *arguments, "--target", "sm_89")
    assert status == 0
    assert (found.device, found.capability, found.target) == (RTX_4090.name, (8, 9), "sm_89")
    (best,) = found.best
    assert best.trial.verdict == "computed" and best.trial.resources.local_bytes == 0
    assert best.trials == len(found.trials) <= most_trials(best.of)
    assert all(each.microseconds is None for each in found.trials)
    assert best.decisions
    printed = capsys.readouterr()
    assert "nothing timed" in printed.out and "occupancy" in printed.out
    assert "many_loads" in printed.err


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path, capsys, monkeypatch):
    arguments = ("--shape", "8x512x512", "--kernel", "triton.skinny", "--target", "sm_89")
    tune(tmp_path, *arguments)
    whole = Session.read(tmp_path / "out" / "session.json")
    count = 0
    plain = figures.of_target

    def interrupted(*problem):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return plain(*problem)

    monkeypatch.setattr(figures, "of_target", interrupted)
    status, found = tune(tmp_path, *arguments, out="other")
    assert status == 130 and len(found.trials) == 3
    (so_far,) = found.best
    assert so_far.trial in found.trials and found.ended == "interrupted"
    said = capsys.readouterr()
    assert "the same command goes on" in said.err and "best so far: interrupted" in said.out
    text = (tmp_path / "other" / "report.md").read_text()
    assert "Cut short: interrupted." in text and so_far.trial.config in text
    assert "Nothing was adopted" not in text
    status, found = tune(tmp_path, *arguments, out="other")
    assert status == 0
    assert found.trials == whole.trials and found.best == whole.best
    assert count == len(whole.trials) + 1
    assert "3 trials found" in capsys.readouterr().err


def test_a_journal_of_other_code_is_set_aside(tmp_path, capsys, monkeypatch):
    arguments = ("--shape", "8x512x512", "--kernel", "triton.skinny", "--target", "sm_89")
    tune(tmp_path, *arguments, "--budget", "0")
    monkeypatch.setattr(header, "code_digest", lambda: "another")
    tune(tmp_path, *arguments, "--budget", "0")
    assert "it is of another search: code differ" in capsys.readouterr().err


def test_a_budget_of_nothing_tries_nothing(tmp_path, capsys):
    status, found = tune(
        tmp_path, "--shape", "8x512x512", "--target", "sm_89", "--budget", "0", "--kernel",
        "triton.skinny",
    )  # fmt: skip
    assert status == 0 and not found.trials and not found.best
    assert "nothing was tried: the time is spent" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Nothing was tried: the time is spent." in text and "none" not in text


def test_gradients_kernels_are_tuned_by_name(tmp_path):
    status, found = tune(
        tmp_path, "--shape", "512x512x1", "--kernel", "triton.backward", "--target", "sm_89"
    )
    assert status == 0
    (best,) = found.best
    assert best.trial.kernel == "triton.backward" and best.trials == best.of


@pytest.mark.skipif(not instances(), reason="the CUDA kernels were not built")
def test_compiled_instances_are_the_configurations_of_a_cuda_kernel(tmp_path):
    status, found = tune(
        tmp_path, "--shape", "1024x1024x1024", "--kernel", "cuda.sm80_multistage", "--dtype",
        "float16", "--target", "sm_89",
    )  # fmt: skip
    assert status == 0
    labels = {each.label for each in instances()}
    assert {each.config for each in found.trials} <= labels
    assert all(each.resources.registers > 0 for each in found.trials)


# Requests that make no sense


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernel", "nonsense", "--target", "sm_89"], "unknown kernel nonsense; known: all, "),
        (["--budget", "-1", "--target", "sm_89"], "seconds from 0 up"),
        (["--allow-tf32", "--target", "sm_89"], "--allow-tf32"),
        (["--apply", "--target", "sm_89"], "nothing is timed"),
        (["--ncu", "--target", "sm_89"], "nothing runs"),
        (["--rounds", "5", "--target", "sm_89"], "--rounds is 6 or more"),
        (["--kernel", "", "--target", "sm_89"], "--kernel names no kernel; known: all, "),
        (["--kernel", "torch.reference", "--target", "sm_89"], "PyTorch's own"),
        (["--out", "/dev/null/x", "--target", "sm_89"], "--out: /dev/null/x cannot be written"),
        (["--json", "/dev", "--target", "sm_89"], "--json: /dev cannot be written: it is a folder"),
        (["--json", "/dev/null/x", "--target", "sm_89"], "--json: /dev/null/x cannot be written"),
    ],
)
def test_nonsense(arguments, said, tmp_path, capsys):
    assert main(["tune", "--shape", "64x64x64", "--out", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_what_it_can_do_and_what_not(tmp_path, capsys):
    assert main(["tune", "--shape", "64x64x64", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "nothing to tune" in said and "--target sm_89 or sm_90" in said
    assert not (tmp_path / "out").exists()


def test_the_package_does_not_import_the_tuner():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, fusedops; print([m for m in sys.modules if 'tune' in m])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "fusedops.tune" not in done.stdout


# A whole run on a device, with a kernel whose configurations are ways to cut a CPU's work


@dataclass(frozen=True)
class Rows:
    block_m: int
    is_wrong: bool = False

    def __str__(self):
        return f"rows{self.block_m}{'_wrong' * self.is_wrong}"


def by_rows(problem, config):
    def launch(x, weight, bias, scale, out):
        for some, part in zip(x.split(config.block_m), out.split(config.block_m), strict=True):
            part.copy_(reference.with_z(some, weight, bias, scale)[0])
        if config.is_wrong:
            out[0, 0] += 1

    launch.microseconds = 1000.0 / config.block_m
    return launch


def samples_as_the_launch_says(calls, device, *, rounds, warmup):
    """In place of a clock, which a busy machine upsets."""
    return {name: [call.func.microseconds] * rounds for name, call in calls.items()}


def cpu_kernel(configs):
    return Kernel(
        name="test.rows",
        backend="cpu",
        accumulation=lambda problem: Accumulation(2**-24),
        why_not=lambda problem: (),
        configs=lambda problem: configs[:1],
        prepare=by_rows,
        space=lambda problem: Space(configs),
    )


def run_on_cpu(monkeypatch, configs, *, exhaustive=False, folder=None, others=()):
    kernel = cpu_kernel(configs)
    monkeypatch.setattr(figures, "of_loaded", lambda *problem: resources(64))
    monkeypatch.setattr(backends, "kernels", lambda: (kernel, *others))
    for module in (card, session):
        monkeypatch.setattr(module, "samples", samples_as_the_launch_says)
    whole = plan.Plan(
        [(256, 64, 64)], torch.float32, [kernel], CPU, exhaustive=exhaustive, folder=folder
    )
    facts = {"device": "cpu", "device_name": "a CPU", "capability": (0, 0)}
    monkeypatch.setattr(session, "device_facts", lambda device: facts)
    tuning = session.Tuning(whole, Lines())
    tuning.run()
    return tuning.session()


CUTS = tuple(map(Rows, (4, 1, 256, 16, 64)))


@pytest.mark.parametrize("exhaustive", [False, True])
def test_a_whole_run(monkeypatch, exhaustive, tmp_path):
    found = run_on_cpu(monkeypatch, CUTS, exhaustive=exhaustive, folder=tmp_path)
    (best,) = found.best
    assert best.trial.config == "rows256"
    assert best.trial.error_over_bound <= 1
    assert best.microseconds > 0
    assert best.trials == (5 if exhaustive else most_trials(5))
    (row,) = rows(found)
    assert (row.shape, row.dtype, row.kernel) == ((256, 64, 64), "float32", "test.rows")
    assert row.config == best.trial.config and row.how == "measured"
    written = tmp_path / "session.json"
    found.write(written)
    assert Session.read(written) == dataclasses.replace(
        found,
        trials=list(found.trials),
        best=[replace(b, decisions=list(b.decisions)) for b in found.best],
        others=list(found.others),
    )


def test_a_wrong_candidate_of_ours_is_reported(monkeypatch):
    found = run_on_cpu(monkeypatch, (*CUTS[:2], Rows(256, is_wrong=True)))
    (wrong,) = (each for each in found.trials if each.config == "rows256_wrong")
    assert wrong.verdict == "wrong" and wrong.error_over_bound > 1 and wrong.microseconds is None
    assert found.best[0].trial.config == "rows4"


def test_rows_are_of_what_was_timed_together_and_near_the_fastest(monkeypatch):
    found = run_on_cpu(monkeypatch, CUTS)
    (best,) = found.best
    kernel = best.trial.kernel

    def with_bests(*times):
        return replace(found, best=[replace(best, microseconds=time) for time in times])

    assert [row.microseconds for row in rows(with_bests(110.9, 100.0, 109.9))] == [100.0, 109.9]
    assert rows(with_bests(None)) == []
    gradient = replace(best, trial=replace(best.trial, kernel="triton.backward"))
    assert rows(replace(found, best=[gradient])) == []
    assert kernel == "test.rows"


def test_what_the_registry_takes_is_timed_beside_a_kernel_that_is_tuned_alone(monkeypatch):
    other = replace(cpu_kernel((Rows(32),)), name="test.other")
    choice = Choice(other, Rows(32), "it is the fastest")
    monkeypatch.setattr(session, "choose", lambda problem, request: choice)
    found = run_on_cpu(monkeypatch, CUTS, others=(other,))
    (beside,) = found.others
    assert (beside.trial.kernel, beside.trial.config) == ("test.other", "rows32")
    assert beside.microseconds > 0
    assert {row.kernel for row in rows(found)} <= {"test.rows", "test.other"}
    slow = replace(beside, microseconds=2 * found.best[0].microseconds)
    fast = replace(beside, microseconds=found.best[0].microseconds / 1.05)
    assert [row.kernel for row in rows(replace(found, others=[slow]))] == ["test.rows"]
    both = [row.kernel for row in rows(replace(found, others=[fast]))]
    assert both == ["test.other", "test.rows"]
    wrong = Choice(other, Rows(32, is_wrong=True), "it is the fastest")
    monkeypatch.setattr(session, "choose", lambda problem, request: wrong)
    assert not run_on_cpu(monkeypatch, CUTS, others=(other,)).others


def test_what_fails_at_the_end_of_a_shape_leaves_what_was_found(monkeypatch):
    other = replace(cpu_kernel((Rows(32),)), name="test.other")

    def choose(problem, request):
        raise KeyError("gone")

    monkeypatch.setattr(session, "choose", choose)
    found = run_on_cpu(monkeypatch, CUTS, others=(other,))
    assert list(found.failed) == ["256x64x64, what the registry takes today"]
    assert found.best[0].microseconds > 0

    monkeypatch.setattr(session, "choose", lambda *words: Choice(other, Rows(32), "so"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    lost = LookupError("no configuration of that name")

    def call_of(self, name):
        if name != "rows256":
            raise lost
        return plain(self, name)

    plain = session.CardBench.call_of
    monkeypatch.setattr(session.CardBench, "call_of", call_of)
    found = run_on_cpu(monkeypatch, CUTS, others=(other,))
    assert list(found.failed) == ["256x64x64 test.other rows32"]
    assert found.best[0].microseconds > 0 and found.others[0].microseconds is None
    assert [row.config for row in rows(found)] == ["rows256"]


def test_interrupted_as_the_best_are_timed_together_they_are_in_the_session(monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(session.Tuning, "_together", interrupted)
    kept = []
    plain = session.Tuning.run

    def run(self):
        with pytest.raises(KeyboardInterrupt):
            plain(self)
        kept.append(self)

    monkeypatch.setattr(session.Tuning, "run", run)
    monkeypatch.setattr(session, "choose", lambda *words: Choice(cpu_kernel(CUTS), CUTS[0], "so"))
    found = run_on_cpu(monkeypatch, CUTS)
    assert found.ended == "interrupted"
    assert found.best[0].trial.config == "rows256" and not rows(found)


def test_the_gradients_work_knows_right_from_wrong():
    done = work.Backward((40, 24, 1), torch.float32, CPU)
    kernel = backends.REFERENCE_BACKWARD
    accumulation = kernel.accumulation(done.problem)
    launch = kernel.prepare(done.problem, None)
    assert done.error(launch, accumulation) <= 1

    def without_bias(grad, saved, scale, dz, dbias, dscale):
        launch(grad, saved, scale, dz, None, None)

    assert not done.error(without_bias, accumulation) <= 1


def test_times_of_a_call():
    done = work.Called((40, 24, 16), torch.float32, CPU)
    bench = card.CardBench(cpu_kernel(CUTS), done, CPU, Pool(1))
    times = bench.times(CUTS[:2], 3)
    assert [len(each) for each in times] == [3, 3]
    assert all(0 < time < 1e6 for each in times for time in each)


def test_the_operators_work_knows_right_from_wrong():
    done = work.Called((40, 24, 16), torch.float32, CPU)
    accumulation = Accumulation(2**-24)
    assert done.error(by_rows(done.problem, Rows(8)), accumulation) <= 1
    assert not done.error(by_rows(done.problem, Rows(8, is_wrong=True)), accumulation) <= 1
    assert not done.error(lambda *operands: None, accumulation) <= 1


# On a card


@pytest.mark.gpu
def test_figures_of_a_loaded_kernel_are_the_drivers():
    from fusedops.lint.machine.triton_programs import specialization
    from fusedops.triton_kernels import launch

    done = work.Called((256, 512, 512), torch.float16, torch.device("cuda"))
    problem = done.problem
    for kernel in backends.kernels():
        if kernel.backend == "triton" and not kernel.why_not(problem):
            for config in kernel.configs(problem)[:3]:
                found = figures.of_loaded(kernel, problem, config)
                special = specialization(kernel, problem, config)
                code = launch.load(special, problem.capability, 0)
                assert found.blocks == code.resident, (kernel.name, config)
                assert found.registers > 16
                assert found == figures.of_target(kernel, problem, config)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["256x512x512", "8x512x512"])
def test_a_run_on_the_card(shape, tmp_path):
    kernels = "triton.tiled,cuda.sm80_multistage,triton.backward"
    status, found = tune(
        tmp_path, "--shape", shape, "--dtype", "float16", "--kernel", kernels, "--rounds", "6"
    )
    assert status == 0
    assert {each.trial.kernel for each in found.best} == set(kernels.split(","))
    for best in found.best:
        assert best.trial.verdict == ADOPTED and best.trial.error_over_bound <= 1
        assert best.microseconds > 0
    assert all(each.resources.blocks >= 1 for each in found.trials if each.microseconds)
    assert json.loads((tmp_path / "out" / "session.json").read_text())["target"] == ""


@pytest.mark.gpu
def test_processes_compile_ahead():
    from fusedops.triton_kernels import TILED

    problem = Problem.contiguous(96, 96, 96, torch.float16, card=H200)
    pool = Pool(2)
    configs = TILED.configs(problem)[:2]
    pool.expect(TILED, problem, configs)
    for config in configs:
        pool.wait(TILED, problem, config)
    pool.close()
