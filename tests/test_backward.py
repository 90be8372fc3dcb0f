"""The kernels of the gradient with respect to z, against their bound.

Run as a script, under Triton's interpreter, it puts Triton's kernel through the cases below: Triton
reads TRITON_INTERPRET when it is imported, so they run in a process of their own.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fusedops import backends, backward, native, numerics, reference
from fusedops.plans import alignment, device_facts
from fusedops.recovery import LEAST_SCALE, MOST_FOR_ONE_STEP, MOST_SCALE, recovery_steps
from fusedops.registry import (
    H200,
    RTX_4090,
    BackwardProblem,
    Kernel,
    Request,
    backward_problem,
    dtype_name,
    select,
)
from fusedops.triton_kernels import BACKWARD as TRITON

CPU = torch.device("cpu")
HALVES = (torch.float16, torch.bfloat16)
DTYPES = (*HALVES, torch.float32, torch.float64)
SCALES = (1.0, 2.0, -1.0, math.nextafter(2.0, 3.0), -3.0, 5.0, 12.0, 0.0, 1e-30, -3.5, 30.0, -1e4)
SHAPES = ((1, 1), (37, 1), (3, 513), (300, 24), (257, 70), (5, 1027))
GUARD = 8


@dataclass(frozen=True)
class Case:
    """One call, its data drawn from the seed."""

    m: int
    n: int
    dtype: torch.dtype
    scale: float
    wants_dz: bool = True
    bias_dtype: torch.dtype | None = torch.float32
    wants_dscale: bool = False
    scale_dtype: torch.dtype | None = None
    data: str = "normal"
    offset: int = 0
    seed: int = 0

    @property
    def steps(self) -> int:
        if self.wants_dscale or self.scale_dtype is not None:
            return 0
        return recovery_steps(self.scale, self.dtype) or 0

    def problem(self, device: torch.device, *tensors: torch.Tensor) -> BackwardProblem:
        return backward_problem(
            self.m,
            self.n,
            self.dtype,
            steps=self.steps,
            wants_dz=self.wants_dz,
            bias_dtype=self.bias_dtype,
            wants_dscale=self.wants_dscale,
            scale_dtype=self.scale_dtype,
            alignment=alignment(*tensors),
            interpreted=os.environ.get("TRITON_INTERPRET") == "1",
            **device_facts(device),
        )

    def inputs(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Grad and y (or z), off an aligned address by ``offset`` elements."""
        generator = torch.Generator().manual_seed(self.seed)
        size = self.m * self.n
        grad = torch.randn(size, generator=generator, dtype=torch.float64)
        saved = torch.randn(size, generator=generator, dtype=torch.float64)
        if self.data == "positive":
            grad, saved = grad.abs(), saved.abs()
        elif self.data == "wide":
            saved = saved.sign() * 10 ** (3 * saved)
        elif self.data == "special":
            places = torch.randperm(size, generator=generator)
            for place, value in zip(places, (math.inf, -math.inf, math.nan), strict=False):
                saved[place] = value
            for place in places[3:5]:
                grad[place] = math.nan if place % 2 else math.inf
        saved = 3 * saved + (self.scale / 2 if abs(self.scale) < 100 else 0)
        return placed(grad, self, device), placed(saved, self, device)


def placed(values: torch.Tensor, case: Case, device: torch.device) -> torch.Tensor:
    buffer = torch.full((len(values) + case.offset,), math.nan, dtype=case.dtype, device=device)
    buffer[case.offset :] = values.to(case.dtype)
    return buffer[case.offset :].view(case.m, case.n)


def guarded(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """NaN all over: what is not written shows, and what is written outside shows as well."""
    return torch.full((size + 2 * GUARD,), math.nan, dtype=dtype, device=device)


def inner(buffer: torch.Tensor) -> torch.Tensor:
    return buffer[GUARD:-GUARD]


Launch = Callable[..., None]


def run(launch: Launch, case: Case, device: torch.device) -> tuple[list[torch.Tensor], bool]:
    """The buffers of dz, dbias and dscale, and whether all around them was left alone."""
    grad, saved = case.inputs(device)
    scale: float | torch.Tensor = case.scale
    if case.scale_dtype is not None:
        scale = torch.tensor(case.scale, dtype=case.scale_dtype, device=device)
    buffers = [
        guarded(case.m * case.n, case.dtype, device),
        guarded(case.n, case.bias_dtype or case.dtype, device),
        guarded(1, case.scale_dtype or case.dtype, device),
    ]
    launch(
        grad,
        saved,
        scale,
        inner(buffers[0]).view(case.m, case.n) if case.wants_dz else None,
        inner(buffers[1]) if case.bias_dtype is not None else None,
        inner(buffers[2]).view(()) if case.wants_dscale else None,
    )
    wanted = (case.wants_dz, case.bias_dtype is not None, case.wants_dscale)
    intact = all(
        bool(part.isnan().all())
        for buffer, is_wanted in zip(buffers, wanted, strict=True)
        for part in ((buffer[:GUARD], buffer[-GUARD:]) if is_wanted else (buffer,))
    )
    return buffers, intact


def fractions(launch: Launch, kernel: Kernel, case: Case, device: torch.device) -> list[float]:
    """Error over bound of each wanted result; infinite where something else was written."""
    buffers, intact = run(launch, case, device)
    grad, saved = case.inputs(device)
    scale = case.scale
    if case.scale_dtype is not None:
        scale = float(torch.tensor(scale, dtype=case.scale_dtype))
    expected, bounds = numerics.expected_and_bound_of_gradients(
        grad,
        saved,
        scale,
        kernel.accumulation(case.problem(device)),
        from_y=case.steps > 0,
        bias_dtype=case.bias_dtype,
        scale_dtype=case.scale_dtype,
    )
    found = [] if intact else [math.inf]
    for buffer, want, bound, is_wanted in zip(
        buffers,
        (expected.dz, expected.dbias, expected.dscale),
        (bounds.dz, bounds.dbias, bounds.dscale),
        (case.wants_dz, case.bias_dtype is not None, case.wants_dscale),
        strict=True,
    ):
        if is_wanted:
            got = inner(buffer).view(want.shape)
            found.append(float(numerics.fraction_of_bound(got, want, bound).max()))
    return found


def cases(dtypes: tuple[torch.dtype, ...] = DTYPES) -> Iterator[Case]:
    """Every scale and shape, kinds of data in turn, then every set of results."""
    kinds = itertools.cycle(("normal", "positive", "wide", "special"))
    seeds = itertools.count()
    for dtype, scale, (m, n) in itertools.product(dtypes, SCALES, SHAPES):
        offset = next(seeds) % 3
        yield Case(m, n, dtype, scale, data=next(kinds), offset=offset, seed=next(seeds))
    for dtype, wants_dz, bias, wants_dscale, on_device in itertools.product(
        dtypes, (True, False), (None, "same", torch.float32), (True, False), (True, False)
    ):
        if not wants_dz and bias is None and not wants_dscale:
            continue
        yield Case(
            300,
            24,
            dtype,
            2.0,
            wants_dz=wants_dz,
            bias_dtype=dtype if bias == "same" else bias,
            wants_dscale=wants_dscale,
            scale_dtype=torch.float32 if on_device else None,
            seed=next(seeds),
        )


def worst(kernel: Kernel, device: torch.device, some: Iterator[Case]) -> tuple[int, float, str]:
    """How many cases ran, the worst fraction of the bound and where."""
    count, most, where = 0, 0.0, ""
    for case in some:
        problem = case.problem(device, *case.inputs(device))
        if kernel.reasons(problem):
            continue
        for config in kernel.configs(problem):
            fraction = max(fractions(kernel.prepare(problem, config), kernel, case, device))
            if not fraction <= most:
                most, where = fraction, f"{case} {config}"
            count += 1
    return count, most, where


def on_cpu() -> list[Kernel]:
    missing = backends.missing()
    return [
        kernel
        for kernel in backends.backward_kernels()
        if kernel.backend in ("cpu", "reference") and kernel.backend not in missing
    ]


@pytest.mark.parametrize("kernel", on_cpu(), ids=lambda kernel: kernel.name)
def test_kernels_on_a_cpu(kernel):
    count, most, where = worst(kernel, CPU, cases())
    assert most <= 1, where
    assert count > 300


ISAS = list(torch.ops.fusedops_cpu.isas()) if native.why_no_cpu() is None else []


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set(isa):
    kernel = next(each for each in on_cpu() if each.name == "cpu.backward")

    def prepare(problem: BackwardProblem, config: None) -> Launch:
        def launch(grad, saved, scale, dz, dbias, dscale):
            wide = torch.promote_types(grad.dtype, torch.float32)
            sums = None if dbias is None else torch.empty_like(dbias, dtype=wide)
            total = None if dscale is None else torch.empty((), dtype=torch.float64)
            torch.ops.fusedops_cpu.backward_as(
                isa, grad, saved, float(scale), problem.steps, dz, sums, total, problem.m, problem.n
            )
            if dbias is not None:
                dbias.copy_(sums)
            if dscale is not None:
                dscale.copy_(total)

        return launch

    count, most, where = worst(replace(kernel, prepare=prepare), CPU, cases())
    assert most <= 1, where
    assert count > 300


def test_the_bits_on_a_cpu_do_not_depend_on_the_threads():
    case = Case(3001, 130, torch.float32, 2.0)
    kernel = next(each for each in on_cpu() if each.name == "cpu.backward")
    launch = kernel.prepare(case.problem(CPU), None)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append([inner(each) for each in run(launch, case, CPU)[0][:2]])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_triton_under_its_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed: its kernel was not checked")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, most, where = json.loads(done.stdout.splitlines()[-1])
    assert most <= 1, where
    assert count > 100


# --- defects put in on purpose ----------------------------------------------------------------


def mutant(change: str) -> Launch:
    """The reference, wrong in one way."""

    def launch(grad, saved, scale, dz_out, dbias, dscale):
        steps = recovery_steps(scale, grad.dtype) or 0
        if change == "a step too few":
            steps -= 1
        dz, sigmoid = _reference(grad, saved, scale, steps, change)
        if dz_out is not None:
            dz_out.copy_(dz)
        if dbias is not None:
            dbias.copy_((dz[:-1] if change == "a row dropped" else dz).sum(0))
        if dscale is not None:
            dscale.copy_((grad.to(sigmoid.dtype) * sigmoid).sum())

    return launch


def _reference(grad, saved, scale, steps, change):
    if change == "sums of rounded numbers":
        dz, sigmoid = reference.backward(grad, saved, scale, steps)
        return dz.to(grad.dtype).to(dz.dtype), sigmoid
    if change == "half the scale":
        return reference.backward(grad, saved, scale / 2, steps)
    if change == "y taken for z":
        return reference.backward(grad, saved, scale, 0)
    if change == "a step too few" and steps == 0:  # the first guess, and no more
        guess = reference._first_guess(saved.float(), scale)
        return reference.backward(grad.float(), guess, scale, 0)
    dz, sigmoid = reference.backward(grad, saved, scale, steps)
    if change == "the other sigmoid" and sigmoid is not None:
        sigmoid = 1 - sigmoid
    return dz, sigmoid


@pytest.mark.parametrize(
    ("change", "case"),
    [
        ("a row dropped", Case(300, 24, torch.bfloat16, 2.0, bias_dtype=torch.float32)),
        ("a row dropped", Case(300, 24, torch.float32, 30.0)),
        ("a step too few", Case(300, 24, torch.float32, 1.0)),
        ("a step too few", Case(300, 24, torch.bfloat16, 2.0)),
        ("a step too few", Case(300, 24, torch.bfloat16, 12.0)),
        ("a step too few", Case(300, 24, torch.float32, -3.0)),
        ("half the scale", Case(300, 24, torch.bfloat16, 1.0)),
        ("y taken for z", Case(300, 24, torch.bfloat16, 1.0)),
        ("sums of rounded numbers", Case(300, 24, torch.bfloat16, 1.0)),
        ("the other sigmoid", Case(300, 24, torch.float32, 30.0, wants_dscale=True)),
    ],
)
def test_defects_are_caught(change, case):
    assert max(fractions(mutant("none"), backends.REFERENCE_BACKWARD, case, CPU)) <= 1
    assert not max(fractions(mutant(change), backends.REFERENCE_BACKWARD, case, CPU)) <= 1


# --- the policy -------------------------------------------------------------------------------


def switches() -> list[float]:
    edges = (LEAST_SCALE, -1.0, 0.0, MOST_FOR_ONE_STEP, MOST_SCALE)
    around = [math.nextafter(edge, edge + way) for edge in edges for way in (-1.0, 1.0)]
    return [*edges, *around, 0.3, -0.5, 1.0, -2.0, 7.0, 40.0, -5.0, 1e3, -1e3]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("scale", switches())
def test_both_policies_against_gradients_in_float64(scale, dtype):
    """From a rounded z, and where the policy says so from a rounded y: 3.5 roundings of dz."""
    generator = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(4000, generator=generator, dtype=torch.float64)
    grad = torch.randn(4000, generator=generator, dtype=torch.float64).to(dtype)
    first = torch.sigmoid(z) * torch.sigmoid(-z)
    expected = grad.double() * (1 + scale * first)
    y = (z + scale * torch.sigmoid(z)).to(dtype)
    u = numerics.unit_roundoff(dtype)
    noise = 64 * numerics.unit_roundoff(torch.promote_types(dtype, torch.float32))
    slack = noise * grad.double().abs() * (1 + abs(scale)) + 1e-6 * (dtype == torch.float16)

    kept = reference.backward(grad, z.to(dtype), scale, 0)[0].to(dtype).double()
    slope = (1 + scale * first).abs()
    moved = abs(scale) * first * (1 - 2 * torch.sigmoid(z)).abs() * z.abs()
    allowed = grad.double().abs() * (
        1.1 * u * (moved + 2 * slope) + abs(scale) * z.square() * u * u
    )
    assert ((kept - expected).abs() <= allowed + slack).all()

    steps = recovery_steps(scale, dtype)
    if steps is None:
        assert not LEAST_SCALE <= scale <= MOST_SCALE
        return
    found = reference.backward(grad, y, scale, steps)[0].to(dtype).double()
    assert ((found - expected).abs() <= (3.5 + 1) * u * expected.abs() * 1.1 + slack).all()


# --- selection and code -----------------------------------------------------------------------


def on(card, dtype: torch.dtype = torch.bfloat16, **changes) -> BackwardProblem:
    problem = backward_problem(8192, 4096, dtype, **{"steps": 1, "bias_dtype": dtype, **changes})
    return replace(card.place(problem))


@pytest.mark.parametrize("card", [RTX_4090, H200], ids=str)
def test_reasons(card):
    for kernel in backends.backward_kernels():
        here = on(card)
        if kernel.backend == "cpu":
            assert kernel.reasons(here)
            continue
        assert not kernel.reasons(here), kernel.name
        assert not kernel.reasons(on(card, steps=0, scale_dtype=torch.float32, wants_dscale=True))
        assert kernel.configs(here)
        if kernel.backend == "cuda":
            (dtype, *others) = kernel.reasons(on(card, torch.float64, steps=3))
            assert "float64" in dtype and "steps" in others[0]
            assert kernel.reasons(replace(here, capability=(7, 5)))


def test_the_order_of_preference():
    missing: dict[str, str] = {}
    kernels = backends.backward_kernels()
    for card in (H200, RTX_4090):
        assert select(on(card), Request(), kernels, missing).kernel.name == "cuda.backward"
    without_cuda = select(on(H200), Request(), kernels, {"cuda": "was not built"})
    assert without_cuda.kernel.name == "triton.backward"
    double = select(on(H200, torch.float64, steps=3), Request(), kernels, missing)
    assert double.kernel.name == "triton.backward"
    here = backward_problem(300, 24, torch.float32, steps=1, device="cpu")
    assert select(here, Request(), kernels, missing).kernel.name == "cpu.backward"


def compiled_instances():
    catalogue = native.catalogue()
    return [] if catalogue is None else catalogue.backward_instances()


@pytest.mark.parametrize("instance", compiled_instances(), ids=str)
def test_resources_of_the_compiled_kernel(instance):
    assert instance.resources
    for resources in instance.resources:
        assert resources["spill_bytes"] == 0
        assert resources["occupancy_warps"] == 32
    partials, counters = instance.workspace(
        m=65536, n=1024, bias_dtype=instance.dtype, wants_dscale=True, multiprocessors=132
    )
    assert 0 < partials < 2**20 and 0 < counters < 64
    nothing = {"bias_dtype": None, "wants_dscale": False, "multiprocessors": 132}
    assert instance.workspace(m=65536, n=1024, **nothing) == (0, 0)


@pytest.mark.parametrize("card", [RTX_4090, H200], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_what_triton_compiles_to(card, dtype, steps):
    """Whole vectors, and no register spilled."""
    if (dtype == torch.float64) == (steps in (1, 2)):
        pytest.skip("such a problem is never asked for")
    pytest.importorskip("triton", reason="Triton is not installed: nothing was compiled")
    from fusedops.triton_kernels.backward import specialization

    problem = on(card, dtype, steps=steps, wants_dscale=steps == 0)
    config = TRITON.configs(problem)[0]
    compiled = specialization(problem, config).compile(card.capability)
    ptx = compiled.asm["ptx"]
    assert re.search(r"ld\.global[\w.:]*\.v\d\.b\d+", ptx)
    assert ("tanh.approx" in ptx) == (steps in (1, 2))
    assert _local_memory(compiled.asm["cubin"]) == 0


def _local_memory(cubin: bytes) -> int:
    """Of each thread: where spilled registers go."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return max(map(int, found.groups()))


# --- on a card --------------------------------------------------------------------------------

CUDA = torch.device("cuda")
ON_A_CARD = [
    name
    for name in ("cuda.backward", "triton.backward")
    if name in {kernel.name for kernel in backends.backward_kernels()}
]


def named(name: str) -> Kernel:
    return next(kernel for kernel in backends.backward_kernels() if kernel.name == name)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_A_CARD)
def test_kernels_on_a_card(name):
    count, most, where = worst(named(name), CUDA, cases())
    assert most <= 1, where
    assert count > 200
    for m, n in ((100_003, 3), (4096, 1024), (77, 70_001), (1 << 20, 8)):
        for dtype in HALVES:
            some = iter([Case(m, n, dtype, 2.0), Case(m, n, dtype, 30.0, wants_dscale=True)])
            _, most, where = worst(named(name), CUDA, some)
            assert most <= 1, where


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_A_CARD)
def test_the_same_bits_from_run_to_run(name):
    case = Case(5000, 1000, torch.bfloat16, 30.0, wants_dscale=True)
    problem = case.problem(CUDA)
    launch = named(name).prepare(problem, named(name).configs(problem)[0])
    first = run(launch, case, CUDA)[0]
    for _ in range(20):
        again = run(launch, case, CUDA)[0]
        assert all(torch.equal(inner(a), inner(b)) for a, b in zip(first, again, strict=True))


def gradients(name: str, grad: torch.Tensor, saved: torch.Tensor, scale: float = 2.0):
    steps = recovery_steps(scale, grad.dtype) or 0
    return backward.compute(grad, saved, scale, None, steps, True, grad.dtype, not steps, name)


@pytest.mark.gpu
@pytest.mark.parametrize("scale", [2.0, 30.0])
@pytest.mark.parametrize("name", ON_A_CARD)
def test_in_a_cuda_graph_and_on_many_streams_at_once(name, scale):
    grad, saved = torch.randn(2, 4096, 1024, device="cuda").bfloat16()
    if name.startswith("triton"):
        gradients(name, grad, saved, scale)  # nothing compiles inside a capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(name, grad, saved, scale)
    grad.copy_(torch.randn_like(grad))
    expected = gradients(name, grad, saved, scale)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(4)]
    found = []
    for turn in range(100):
        with torch.cuda.stream(streams[turn % 4]):
            found.append(gradients(name, grad, saved, scale))
        if turn % 3 == 0:
            graph.replay()
    torch.cuda.synchronize()
    for results in (captured, *found):
        assert all(map(torch.equal, results, expected))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_A_CARD)
def test_one_launch_and_no_synchronisation(name):
    grad, saved = torch.randn(2, 4096, 1024, device="cuda").bfloat16()
    gradients(name, grad, saved)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            gradients(name, grad, saved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    events = [each for each in profile.events() if each.device_type.name == "CUDA"]
    assert len(events) == 1, [each.name for each in events]


def main() -> None:
    some = itertools.islice(cases((torch.float16, torch.float32, torch.float64)), 0, None, 2)
    print(json.dumps(worst(replace(TRITON, configs=_first_config), CPU, some)))


def _first_config(problem: BackwardProblem) -> tuple[object, ...]:
    return TRITON.configs(problem)[:1]


if __name__ == "__main__":
    main()
