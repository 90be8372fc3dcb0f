"""The kernels for few rows: what they refuse, which configuration the model puts first, and on a
card that overlapping launches are right and a row's bits do not depend on M."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fusedops import cuda_backend
from fusedops.plans import describe
from fusedops.registry import FEW_ROWS, H200, RTX_4090, Problem, strips_time
from fusedops.registry.heuristic import preference

# Rows, strip, K of a stage, stages, parts of K.
HOPPER = ((8, 64, 128, 6, 2), (8, 64, 64, 7, 4), (8, 128, 64, 6, 1), (8, 128, 64, 6, 2))
HOPPER += ((16, 64, 64, 10, 2), (16, 64, 64, 7, 4), (16, 64, 64, 7, 8))
HOPPER += ((16, 128, 64, 6, 1), (16, 128, 64, 6, 2))
HOPPER += ((32, 64, 64, 8, 2), (32, 64, 64, 5, 4), (32, 72, 64, 5, 8))
HOPPER += ((32, 128, 64, 5, 1), (32, 128, 64, 5, 2))
HOPPER += ((64, 64, 64, 6, 2), (64, 64, 64, 4, 4), (64, 72, 64, 5, 8))
HOPPER += ((64, 128, 64, 9, 1), (64, 128, 128, 4, 2), (64, 144, 64, 6, 4))
FASTEST = {
    (1, 4096, 4096): (8, 64, 128, 6, 2),
    (16, 4096, 4096): (16, 64, 64, 10, 2),
    (16, 1024, 8192): (16, 64, 64, 7, 8),
    (8, 4096, 14336): (8, 64, 128, 6, 2),
    (1, 14336, 4096): (8, 128, 64, 6, 1),
    (32, 14336, 4096): (32, 128, 64, 5, 1),
    (4, 8192, 8192): (8, 128, 64, 6, 2),
    (64, 8192, 8192): (64, 128, 128, 4, 2),
    (64, 4096, 4096): (64, 64, 64, 6, 2),
    (32, 4096, 4096): (32, 64, 64, 8, 2),
    (64, 1024, 8192): (64, 72, 64, 5, 8),
    (64, 4096, 14336): (64, 144, 64, 6, 4),
    (4, 5120, 5120): (8, 128, 64, 6, 2),
}


@pytest.mark.parametrize(("shape", "fastest"), FASTEST.items())
def test_the_model_puts_the_fastest_measured_configuration_first(shape, fastest):
    problem = Problem.contiguous(*shape, torch.bfloat16, card=H200)

    def time(config):
        rows, columns, tile_k, stages, split_k = config
        return strips_time(problem, rows, columns, split_k=split_k, tile_k=tile_k, stages=stages)

    assert min((each for each in HOPPER if each[0] >= shape[0]), key=time) == fastest


# Microseconds of cuda.skinny_fp32 as measured, docs/performance/fp32.md.
MEASURED_FP32 = {
    (1, 4096, 4096): {"1x32x128_s5_w2x2_c1": 16.86, "1x64x64_s5_w4x1_c1_any": 34.93},
    (1, 14336, 4096): {"1x32x128_s5_w2x2_c1": 55.93, "1x64x64_s5_w4x1_c1_any": 63.64},
    (4, 1024, 8192): {"4x16x256_s4_w1x4_c2": 10.25, "4x16x256_s4_w1x4_c1": 11.86},
    (8, 4096, 4096): {
        "8x32x64_s4_w2x2_c2": 18.0,
        "8x16x128_s4_w1x4_c1": 18.55,
        "8x64x64_s4_w2x2_c1": 27.94,
    },
    (16, 1024, 8192): {"16x64x64_s4_w4x1_c8": 17.92, "16x16x128_s5_w1x4_c1": 26.16},
    (16, 4096, 4096): {"16x64x64_s4_w2x2_c2": 20.19, "16x64x64_s4_w2x2_c1": 33.78},
    (16, 8192, 8192): {
        "16x64x64_s4_w4x1_c2": 67.71,
        "16x32x128_s3_w1x4_c1": 73.69,
        "16x64x64_s4_w2x2_c1": 93.21,
    },
    (16, 14336, 4096): {"16x64x64_s4_w2x2_c1": 62.19, "16x16x128_s5_w1x4_c1": 78.07},
    (16, 2048, 2048): {"16x16x128_s5_w1x4_c2": 7.9, "16x64x64_s4_w2x2_c2": 11.44},
    (32, 4096, 4096): {"32x32x64_s5_w2x2_c2": 29.85, "32x32x64_s5_w2x2_c1": 40.26},
}


@pytest.mark.parametrize(("shape", "times"), MEASURED_FP32.items())
def test_the_model_of_float32_tells_the_fast_from_the_slow(shape, times):
    tested = kernel("cuda.skinny_fp32")
    problem = Problem.contiguous(*shape, torch.float32, card=H200)
    labels = [str(config) for config in tested.configs(problem) if str(config) in times]
    assert set(labels) == set(times)
    assert times[labels[0]] <= 1.05 * min(times.values())


@pytest.mark.parametrize("card", [H200, RTX_4090])
def test_float32_for_few_rows(card):
    tested = kernel("cuda.skinny_fp32")
    problem = Problem.contiguous(16, 512, 512, torch.float32, card=card)
    assert preference(problem, cuda_backend.cuda_kernels())[2].name == tested.name
    for precision in ("ieee", "tf32"):
        allowed = replace(problem, fp32_precision=precision, writes_z=True)
        assert tested.reasons(replace(allowed, scale_dtype=torch.float32)) == ()
    assert tested.why_not(problem.resized(32, 512, 512)) == ()
    assert "at most" in tested.why_not(problem.resized(33, 512, 512))[0]
    odd = problem.resized(16, 512, 511)
    assert all(str(config).endswith(cuda_backend.ANY_LAYOUT) for config in tested.configs(odd))
    assert not str(tested.configs(problem)[0]).endswith(cuda_backend.ANY_LAYOUT)
    (reason, *_) = tested.why_not(replace(problem, x_strides=(1, 16)))
    assert "unit stride along K" in reason


@pytest.mark.parametrize("card", [H200, RTX_4090])
def test_they_come_first_for_few_rows_alone(card):
    kernels = [SimpleNamespace(name=name) for name in ("cuda.sm80_multistage", "cuda.skinny")]
    for m, first in ((1, 1), (FEW_ROWS, 1), (FEW_ROWS + 1, 0), (4096, 0)):
        problem = Problem.contiguous(m, 512, 512, torch.float16, card=card)
        assert preference(problem, kernels)[0] is kernels[first]


def kernel(name: str):
    found = [each for each in cuda_backend.cuda_kernels() if each.name == name]
    if not found:
        pytest.skip(f"{name} was not built")
    return found[0]


def test_what_they_refuse():
    hopper, portable = kernel("cuda.sm90_skinny"), kernel("cuda.skinny")
    fits = Problem.contiguous(64, 512, 512, torch.bfloat16, card=H200)
    assert hopper.why_not(fits) == portable.why_not(fits) == ()
    assert "at most" in hopper.why_not(fits.resized(65, 512, 512))[0]
    assert "16-byte vectors" in portable.why_not(fits.resized(64, 512, 516))[-1]


def operands(m: int, n: int, k: int):
    generator = torch.Generator("cuda").manual_seed(5)
    x = torch.randn(m, k, generator=generator, device="cuda").bfloat16()
    weight = torch.randn(n, k, generator=generator, device="cuda").bfloat16() / k**0.5
    return x, weight


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda.skinny", "cuda.sm90_skinny"])
@pytest.mark.parametrize(("n", "k"), [(1000, 512), (1001, 4104), (4096, 4096)])
def test_the_bits_of_a_row_do_not_depend_on_m(name, n, k):
    x, weight = operands(64, n, k)
    rows: dict[str, torch.Tensor] = {}
    for m in (1, 3, 8, 17, 33, 64):
        problem = describe(x[:m], weight, None)
        tested = kernel(name)
        for config in tested.configs(problem):
            y = x.new_empty(m, n)
            tested.prepare(problem, config)(x[:m], weight, None, 2.0, y)
            first = rows.setdefault(tested.summation(problem, config), y[:1])
            assert torch.equal(y[:1], first), (m, config)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda.skinny", "cuda.sm90_skinny"])
def test_a_graph_of_launches_that_start_before_their_predecessors_end(name):
    x, _ = operands(8, 2048, 2048)
    weights = [operands(8, 2048, 2048)[1].roll(i, 0) for i in range(12)]
    buffers = [x.clone(), torch.empty_like(x)]
    problem = describe(x, weights[0], None)
    launch = kernel(name).prepare(problem, kernel(name).configs(problem)[0])

    def chain(finish) -> None:
        buffers[0].copy_(x)
        for i, weight in enumerate(weights):
            launch(buffers[i % 2], weight, None, 2.0, buffers[1 - i % 2])
            if i % 5 == 4:
                buffers[1 - i % 2].tanh_()
            finish()

    chain(torch.cuda.synchronize)
    expected = buffers[0].clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chain(lambda: None)
    for _ in range(3):
        graph.replay()
        assert torch.equal(buffers[0], expected)


def test_too_many_rows_are_refused_by_the_largest_tile():
    problem = Problem.contiguous(777, 512, 512, torch.bfloat16, card=H200)
    (reason,) = kernel("cuda.sm90_skinny").why_not(problem)
    assert "at most 64 rows" in reason
