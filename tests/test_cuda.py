"""What only a card can show: streams, threads, graphs, and the operator of the C++ rim."""

from __future__ import annotations

import threading

import pytest
import torch

import fusedops
from fusedops import backends, cuda_backend, native
from fusedops.plans import describe
from fusedops.registry import reasons_against

pytestmark = pytest.mark.gpu


def operands(m: int = 300, n: int = 256, k: int = 192):
    generator = torch.Generator("cuda").manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda").bfloat16()

    return normal(m, k), normal(n, k) / 16, normal(n)


def able(*tensors) -> list[str]:
    problem = describe(*tensors)
    missing = backends.missing()
    return [k.name for k in backends.kernels() if not reasons_against(k, problem, missing)]


def test_the_rim_and_the_catalogue_launch_the_same_kernels():
    assert native.load(native.CUDA_LIBRARY) is None
    x, weight, bias = operands()
    problem = describe(x, weight, bias)
    sizes = (problem.m, problem.n, problem.k, *problem.x_strides, *problem.weight_strides)
    tried = 0
    for kernel in cuda_backend.cuda_kernels():
        for config in kernel.configs(problem):
            one, other = x.new_full((2, problem.m, problem.n), float("nan"))
            kernel.prepare(problem, config)(x, weight, bias, 2.0, one)
            torch.ops.fusedops_cuda.launch(config.index, x, weight, bias, 2.0, other, *sizes)
            assert torch.equal(one, other), config
            tried += 1
    assert tried >= 3


def test_every_kernel_in_threads_that_have_no_context_yet():
    x, weight, bias = operands(m=301)
    names = able(x, weight, bias)
    results: dict[tuple[str, int], torch.Tensor] = {}
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for name in names:
                results[name, number] = fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for (name, _), y in results.items():
        assert torch.equal(y, results[name, 0])


def test_every_kernel_runs_on_the_current_stream():
    x, weight, bias = operands()
    for name in able(x, weight, bias):
        expected = fusedops.gemm_sig_res(x * 2, weight, bias, 2.0, backend=name)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)
            doubled = x * 2
            y = fusedops.gemm_sig_res(doubled, weight, bias, 2.0, backend=name)
        torch.cuda.current_stream().wait_stream(stream)
        assert torch.equal(y, expected), name


def test_every_kernel_in_a_cuda_graph():
    x, weight, bias = operands()
    for name in able(x, weight, bias):
        fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=name)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=name)
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(y, fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=name)), name


def test_float32_follows_pytorchs_switch():
    x, weight, bias = (each.float() for each in operands(k=1024))
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    kernels = {}
    try:
        for precision in ("ieee", "tf32"):
            matmul.fp32_precision = precision
            assert describe(x, weight, bias).fp32_precision == precision
            kernels[precision] = fusedops.gemm_sig_res(x, weight, bias, backend="triton.tiled")
    finally:
        matmul.fp32_precision = before
    assert not torch.equal(kernels["ieee"], kernels["tf32"])


def test_compiled_on_the_card():
    x, weight, bias = operands()
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: fusedops.gemm_sig_res(x, weight, bias, 2.0), fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), fusedops.gemm_sig_res(x, weight, bias, 2.0))
