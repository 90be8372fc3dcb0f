"""The search, driven by a simulated machine: what it adopts, what it never does, and resuming."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusedops.registry import H200, Accumulation, Kernel, Problem, Space
from fusedops.tune import ncu
from fusedops.tune.attempts import Attempts
from fusedops.tune.exhaustive import Exhaustive
from fusedops.tune.journal import Journal, digest
from fusedops.tune.judge import LEAST_GAIN
from fusedops.tune.neighbours import Map
from fusedops.tune.profiler import NsightCompute
from fusedops.tune.search import FEW, SHARE, Search, most_trials
from fusedops.tune.trial import (
    ADOPTED,
    COMPUTED,
    FAILED,
    REVERTED,
    WARPS_AND_STAGES,
    WRONG,
    Resources,
)
from fusedops.tune.workbench import CardLost

SIDES = (16, 32, 64, 128, 256)
PROBLEM = Problem.contiguous(1024, 4096, 4096, torch.float16, bias_dtype=torch.float16, card=H200)
SUBJECT = ((1024, 4096, 4096), "float16", "simulated.kernel")


@dataclass(frozen=True)
class Config:
    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int

    def __str__(self):
        blocks = f"{self.block_m}x{self.block_n}x{self.block_k}"
        return f"{blocks}_w{self.num_warps}_s{self.num_stages}"


OWN = (Config(64, 64, 64, 4, 4), Config(128, 64, 64, 4, 3))
SPACE = (*OWN, *(Config(*each) for each in product(SIDES, SIDES, SIDES[:4], (4, 8), (2, 3))))
SPACE = tuple(dict.fromkeys(SPACE))


def estimate(problem, config):
    """A smooth model that knows sides alone, as real ones."""
    return 1 + abs(math.log2(config.block_m / 128)) + abs(math.log2(config.block_n / 128))


def kernel(configs=SPACE):
    return Kernel(
        name=SUBJECT[2],
        backend="triton",
        accumulation=lambda problem: Accumulation(2**-24),
        why_not=lambda problem: (),
        configs=lambda problem: tuple(each for each in OWN if each in configs),
        prepare=lambda problem, config: None,
        estimate=estimate,
        space=lambda problem: Space(tuple(configs)),
    )


def smooth(config):
    """Microseconds: the model's order, and what it does not see."""
    depth = 1 + 0.05 * abs(math.log2(config.block_k / 32))
    setting = 1 + 0.04 * (config.num_warps != 8) + 0.03 * (config.num_stages != 3)
    return 100 * (1 + 0.3 * (estimate(None, config) - 1)) * depth * setting


@dataclass
class Machine:
    """A workbench whose times are a function of the configuration, times noise."""

    cost: object = smooth
    noise: float = 0.0
    seed: int = 0
    wrong: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    spilling: frozenset[str] = frozenset()
    registers: int = 80
    times_anything: bool = True
    stop_at: int | None = None
    compiled: list[str] = field(default_factory=list)
    timed: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)

    def expect(self, configs):
        pass

    def resources(self, config):
        if self.stop_at is not None and len(self.compiled) == self.stop_at:
            raise KeyboardInterrupt
        self.compiled.append(str(config))
        if str(config) in self.failing:
            raise RuntimeError("ptxas fell over\nand more")
        spilt = 8 if str(config) in self.spilling else 0
        return Resources(self.registers, spilt, 1024, 128, 4, "registers", 0.25)

    def error(self, config):
        assert self.times_anything
        return 3.0 if str(config) in self.wrong else 0.4

    def times(self, configs, rounds):
        """The same for the same configurations, whatever was timed before: so runs compare."""
        assert self.times_anything
        names = [str(each) for each in configs]
        self.timed += names
        assert not self.wrong & set(names)
        pair = f"{names} {rounds}"
        self.compared[pair] += 1
        draw = random.Random(f"{pair} {self.compared[pair]} {self.seed}")
        drift = [draw.uniform(0.9, 1.1) for _ in range(rounds)]
        return [
            [self.cost(each) * d * math.exp(draw.gauss(0, self.noise)) for d in drift]
            for each in configs
        ]


class Silent:
    def trying(self, trial, number, best):
        pass

    def tried(self, trial):
        pass


HEADER = {"card": "simulated", "space": digest(SPACE)}


def searching(machine, path=None, configs=SPACE, header=HEADER, out_of_time=lambda: False, **more):
    space = Map(Space(tuple(configs)))
    attempts = Attempts(
        SUBJECT,
        space.configs,
        machine,
        Journal(path, header),
        most=more.pop("most", most_trials(len(space.configs))),
        out_of_time=out_of_time,
        watch=Silent(),
        estimate=lambda config: estimate(None, config),
    )
    return Search(kernel(configs), PROBLEM, attempts, space, **more), attempts


def search(*words, **more):
    """Run one: the best, and all trials by name."""
    run, attempts = searching(*words, **more)
    return run.run(), attempts.trials


def exhaustive(machine, configs=SPACE, out_of_time=lambda: False):
    named = {str(each): each for each in configs}
    attempts = Attempts(
        SUBJECT,
        named,
        machine,
        Journal(None, {}),
        most=len(named),
        out_of_time=out_of_time,
        watch=Silent(),
        estimate=lambda config: estimate(None, config),
    )
    return Exhaustive(attempts, named).run()


def cost_of(best):
    return smooth(next(each for each in SPACE if str(each) == best.trial.config))


def test_near_the_fastest_in_a_tenth_of_the_trials():
    machine = Machine(noise=0.005)
    best, trials = search(machine)
    fastest = min(map(smooth, SPACE))
    assert cost_of(best) <= 1.03 * fastest
    assert best.trials == len(trials) <= len(SPACE) / 10
    assert best.of == len(SPACE)


def test_exhaustive_search_finds_the_fastest_and_tries_everything():
    machine = Machine()
    best = exhaustive(machine)
    assert cost_of(best) == min(map(smooth, SPACE))
    assert best.trials == best.of == len(SPACE)
    fastest = min(map(smooth, SPACE))
    for config in SPACE:
        # Once by one call and, near the fastest so far, by three; the front by many.
        times = machine.timed.count(str(config))
        assert times >= 1
        if smooth(config) < 1.1 * fastest:
            assert times == 3
        if smooth(config) > 2 * smooth(SPACE[0]):
            assert times == 1


def _landscape(seed, roughness):
    def cost(config):
        return smooth(config) * math.exp(random.Random(f"{seed} {config}").gauss(0, roughness))

    return cost


landscapes = st.builds(
    _landscape,
    st.integers(0, 10**6),
    st.floats(0, 1.5),
)
some_names = st.frozensets(st.sampled_from([str(each) for each in SPACE]), max_size=200)


@settings(max_examples=40, deadline=None)
@given(landscapes, st.floats(0, 0.05), some_names, some_names, some_names, st.integers(0, 99))
def test_what_holds_of_every_search(cost, noise, wrong, failing, spilling, seed):
    machine = Machine(cost, noise, seed, wrong, failing, spilling)
    best, trials = search(machine)
    assert len(trials) <= most_trials(len(SPACE))
    assert len(machine.compiled) == len(set(machine.compiled)) == len(trials)
    adopted = [each for each in trials.values() if each.verdict == ADOPTED]
    for name, trial in trials.items():
        assert trial.reason and trial.why
        if name in failing:
            assert trial.verdict == FAILED and "ptxas fell over" in trial.why
        elif name in spilling:
            assert trial.verdict == REVERTED and "spill" in trial.why
            assert name not in machine.timed
        elif name in wrong:
            assert trial.verdict == WRONG
            assert trial.microseconds is None and name not in machine.timed
        else:
            assert trial.verdict in (ADOPTED, REVERTED)
    if best is None:
        assert not adopted
    else:
        assert best.trial == adopted[-1]
    for trial in adopted[1:]:
        assert trial.noise is not None
        gain = 1 - trial.microseconds / trial.incumbent_microseconds
        assert gain > 0  # medians of each; the ratio's own is what was judged
        assert trial.config not in wrong | failing | spilling


@settings(max_examples=40, deadline=None)
@given(landscapes)
def test_without_noise_every_adopted_change_gains_two_percent(cost):
    _, trials = search(Machine(cost))
    adopted = [each for each in trials.values() if each.verdict == ADOPTED]
    times = [each.microseconds for each in adopted]
    costs = [cost(next(c for c in SPACE if str(c) == each.config)) for each in adopted]
    assert len(times) == len(costs)
    for before, after in pairwise(costs):
        assert after <= (1 - LEAST_GAIN) * before * (1 + 1e-9)
    tried = [cost(next(c for c in SPACE if str(c) == name)) for name in trials]
    assert costs[-1] * (1 - LEAST_GAIN) <= min(tried) * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(landscapes)
def test_candidates_are_ranked_by_their_times_whatever_the_best_was_when_they_ran(cost):
    run, attempts = searching(Machine(cost))
    run.run()
    named = {str(each): each for each in SPACE}
    costs = sorted(cost(named[name]) for name in attempts.trials)
    tiles = [cost(named[trial.config]) for trial in run._best_tiles(len(SPACE))]
    assert tiles == sorted(tiles)
    # All but within the threshold of adoption: the best so far need not be the fastest tried.
    assert tiles[0] == costs[0]


@pytest.mark.parametrize("noise", [0.005, 0.03, 0.1])
def test_noise_alone_changes_nothing(noise):
    """Of 20 searches of fifty trials each, one may be misled."""
    ends = [
        search(Machine(lambda config: 100.0, noise, seed))[0].trial.config for seed in range(20)
    ]
    assert ends.count(str(OWN[0])) >= 19


def test_a_wrong_candidate_is_never_adopted_though_it_is_the_fastest():
    fastest = min(SPACE, key=smooth)
    best, trials = search(Machine(wrong=frozenset({str(fastest)})))
    assert trials[str(fastest)].verdict == WRONG
    assert trials[str(fastest)].error_over_bound == 3.0
    assert best.trial.config != str(fastest)


def test_a_nan_is_wrong():
    machine = Machine()
    machine.error = lambda config: math.nan
    best, trials = search(machine)
    assert best is None
    assert {each.verdict for each in trials.values()} == {WRONG}


def test_where_the_first_choice_fails_another_of_the_kernels_own_takes_its_place():
    best, trials = search(Machine(failing=frozenset({str(OWN[0])})))
    assert trials[str(OWN[1])].verdict == ADOPTED
    assert best is not None


def test_the_conservative_baseline_is_in_every_round():
    _, trials = search(Machine())
    tiles = {
        name.rpartition("_w")[0]
        for name, trial in trials.items()
        if trial.stage == WARPS_AND_STAGES and not trial.reason.startswith("beside")
    }
    assert tiles
    for tile in tiles:
        assert f"{tile}_w4_s2" in trials


def test_a_setting_that_is_not_in_the_space_is_said_to_be_left_out():
    without = [each for each in SPACE if (each.num_warps, each.num_stages) != (4, 2)]
    best, _ = search(Machine(), configs=without)
    left_out = "4 warps, 2 stages: not tried: no such configuration is compiled"
    assert any(left_out in each for each in best.decisions)


def test_decisions_carry_the_numbers_that_caused_them():
    best, _ = search(Machine(registers=72))
    assert any("low_registers (72 registers, below 96" in each for each in best.decisions)
    assert any("high_registers (registers limit" in each for each in best.decisions)
    assert any("many_loads (3 distinct loads" in each for each in best.decisions)


def test_a_budget_starts_no_more_candidates_and_a_second_run_goes_on(tmp_path):
    left = iter([False] * 5 + [True] * 1000)
    best, trials = search(Machine(), tmp_path / "j.jsonl", out_of_time=lambda: next(left))
    assert len(trials) == 5
    assert "stopped: the time is spent" in best.decisions
    again = Machine()
    best, trials = search(again, tmp_path / "j.jsonl")
    assert not set(again.compiled) & set(list(trials)[:5])
    assert best == search(Machine())[0]


@settings(max_examples=30, deadline=None)
@given(landscapes, st.floats(0, 0.05), st.lists(st.integers(0, 60), max_size=4), st.data())
def test_interrupted_anywhere_it_ends_the_same_and_repeats_nothing(
    tmp_path_factory, cost, noise, stops, data
):
    path = tmp_path_factory.mktemp("tune") / "journal.jsonl"
    whole, trials = search(Machine(cost, noise))
    compiled = []
    for stop in stops:
        machine = Machine(cost, noise, stop_at=stop)
        try:
            search(machine, path)
        except KeyboardInterrupt:
            # The line under way may have been torn as well.
            torn = data.draw(st.sampled_from([b"", b'{"trial": {"sha', b"\xff", b"{}"]))
            path.write_bytes(path.read_bytes() + torn)
        compiled += machine.compiled
    last = Machine(cost, noise)
    best, resumed = search(last, path)
    assert best == whole
    assert resumed == trials
    compiled += last.compiled
    assert sorted(compiled) == sorted(trials)  # none twice


def test_a_journal_of_another_search_is_set_aside_with_a_word(tmp_path):
    path = tmp_path / "journal.jsonl"
    search(Machine(), path)
    before = path.read_bytes()
    other = Journal(path, {**HEADER, "card": "another"})
    assert not other.finished
    assert "card differ" in other.notice and "journal.aside1" in other.notice
    assert (tmp_path / "journal.aside1").read_bytes() == before
    path.write_text("no journal\n")
    assert "journal.aside2" in Journal(path, HEADER).notice
    for text in ('{"header": {}}\n', '{"header": 3, "starts": []}\n', "[]\n"):
        path.write_text(text)
        assert "it is no journal" in Journal(path, {}).notice


def test_a_journal_is_written_before_the_next_candidate_is_begun(tmp_path):
    path = tmp_path / "journal.jsonl"
    machine = Machine()
    seen = []
    plain = machine.resources

    def resources(config):
        seen.append(len(path.read_text().splitlines()))
        return plain(config)

    machine.resources = resources
    search(machine, path)
    assert seen == list(range(1, len(seen) + 1))  # the header, and a line for each before it
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_card_that_is_lost_ends_the_search_and_its_candidate_is_not_tried_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    machine = Machine()
    bad = str(OWN[0])

    def error(config):
        if str(config) == bad:
            raise CardLost("an illegal memory access")
        return 0.1

    machine.error = error
    with pytest.raises(CardLost):
        search(machine, path)
    _, trials = search(machine, path)
    assert trials[bad].verdict == FAILED and "illegal memory access" in trials[bad].why


def test_for_a_target_nothing_is_timed_and_the_least_estimate_without_spills_is_chosen():
    least = [each for each in SPACE if estimate(None, each) == 1]
    spilling = frozenset(str(each) for each in least if each.block_k > 16)
    best, trials = search(Machine(times_anything=False, spilling=spilling))
    assert best.trial.verdict == COMPUTED
    assert "occupancy 25%, limited by registers" in best.trial.why
    chosen = next(each for each in SPACE if str(each) == best.trial.config)
    assert str(chosen) not in spilling
    tried = [each for each in SPACE if str(each) in trials and str(each) not in spilling]
    assert estimate(None, chosen) == min(estimate(None, each) for each in tried)


@dataclass
class Counters:
    """A profiler that sees warps wait for memory."""

    seen: list[str] = field(default_factory=list)
    said: str = "simulated"

    def figures(self, trial):
        self.seen.append(trial.config)
        return {"dram_percent": 30.0, "tensor_percent": 20.0, "stall_long_scoreboard": 9.0}


def test_what_is_adopted_is_profiled_once_and_the_rules_hear_of_it(tmp_path):
    profiler = Counters()
    path = tmp_path / "journal.jsonl"
    best, trials = search(Machine(registers=110), path, profiler=profiler)
    adopted = [each.config for each in trials.values() if each.verdict == ADOPTED]
    assert profiler.seen == adopted
    assert best.trial.profile["dram_percent"] == 30.0
    assert all(each.profile is None for each in trials.values() if each.verdict != ADOPTED)
    assert any("waits_for_memory" in each for each in best.decisions)
    again = Counters()
    resumed, _ = search(Machine(registers=110), path, profiler=again)
    assert resumed == best and not again.seen


def test_without_nsight_compute_the_search_goes_on_and_says_so(monkeypatch):
    def absent(*words):
        raise ncu.Absent("there is no ncu")

    monkeypatch.setattr(ncu, "find_program", absent)
    profiler = NsightCompute()
    assert "there is no ncu" in profiler.said
    best, _ = search(Machine(), profiler=profiler)
    assert best == search(Machine())[0]


def test_a_profile_that_fails_is_not_asked_for_again(monkeypatch):
    asked = []

    def absent(*words):
        asked.append(words)
        raise ncu.Absent("the counters are kept")

    monkeypatch.setattr(ncu, "described", lambda: "Nsight Compute")
    monkeypatch.setattr(ncu, "profile", absent)
    profiler = NsightCompute()
    best, _ = search(Machine(), profiler=profiler)
    assert len(asked) == 1 and best.trial.profile is None
    assert "the counters are kept" in profiler.said


def test_the_rest_of_a_card_lists_few_trials():
    assert most_trials(3) == 3
    assert most_trials(14) == FEW
    assert most_trials(840) == 840 // SHARE


def test_a_better_start_from_a_table_is_kept():
    fastest = min(SPACE, key=smooth)
    best, trials = search(Machine(), starts=[str(fastest)])
    assert best.trial.config == str(fastest)
    assert next(iter(trials)) == str(fastest)


def test_a_start_from_after_the_journal_is_tried_after_all(tmp_path):
    path = tmp_path / "journal.jsonl"
    slow = max(SPACE, key=smooth)
    whole, trials = search(Machine(), path, starts=[str(slow)])
    new = next(str(each) for each in SPACE if str(each) not in trials)
    best, resumed = search(
        Machine(cost=lambda each: 1.0 if str(each) == new else smooth(each)),
        path,
        starts=[str(slow)],
        late_starts=[new, str(slow)],
    )
    assert best.trial.config == new
    assert {**trials, new: resumed[new]} == resumed
    assert whole.trial.config in trials


def test_a_journal_says_where_its_search_began(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, HEADER, ["a"])
    again = Journal(path, HEADER, ["b"])
    assert again.starts == ["a"] and not again.notice


def test_the_first_that_was_right_in_another_run_does_not_displace_a_better_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    search(Machine(), path, most=1)
    fastest = min(SPACE, key=smooth)
    run, attempts = searching(Machine(), path, starts=[str(fastest)])
    best = run.run()
    assert attempts.trials[str(OWN[0])].verdict == ADOPTED
    assert best.trial.config == str(fastest)
    slower = smooth(OWN[0]) / smooth(fastest)
    assert run._scores[str(OWN[0])] == pytest.approx(slower, rel=0.1)  # drift of two runs


def test_an_exhaustive_search_that_is_cut_short_has_a_best_so_far():
    machine = Machine()
    left = iter([False] * 3 + [True])
    best = exhaustive(machine, out_of_time=lambda: next(left))
    assert best.trials == 3 and best.trial.verdict == ADOPTED
    best = exhaustive(Machine(times_anything=False))
    assert best.trial.verdict == "computed" and best.trials == len(SPACE)


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_search_of_few_rounds_adopts_nothing_but_its_first(rounds):
    _, trials = search(Machine(), rounds=rounds)
    assert [each.verdict for each in trials.values()].count(ADOPTED) == 1


def test_a_damaged_line_costs_its_own_trial_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole, trials = search(Machine(), path)
    lines = path.read_text().splitlines()
    for place, damage in ((5, '{"trial": 3}'), (7, "\x00\x00"), (9, '{"trial": {"shape": 1}}')):
        lines[place] = damage
    path.write_text("\n".join(lines) + "\n")
    notice = Journal(path, HEADER).notice
    assert f"{len(trials) - 3} trials found" in notice and "damaged lines, dropped: 3" in notice
    again = Machine()
    best, resumed = search(again, path)
    assert len(again.compiled) == 3
    assert best == whole and list(resumed) == list(trials)
    assert not list(tmp_path.glob("*.aside*"))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.one_of(st.binary(max_size=40), st.text(max_size=9).map(json.dumps)))
def test_no_damage_to_a_line_ends_a_run(tmp_path_factory, place, damage):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    search(Machine(), path)
    lines = path.read_bytes().splitlines()
    lines[place % len(lines)] = damage if isinstance(damage, bytes) else damage.encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    best, _ = search(Machine(), path)
    assert best is not None
