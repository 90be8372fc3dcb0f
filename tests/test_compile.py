"""torch.compile, torch.export, AOTInductor and CUDA graphs."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import fusedops

COMPILERS = ["eager", "aot_eager", "inductor"]
ON = [("cpu", each) for each in COMPILERS]
ON.append(pytest.param("cuda", "inductor", marks=pytest.mark.gpu))
HOST = [torch.profiler.ProfilerActivity.CPU]
RAW = torch.ops.fusedops.gemm_sig_res


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operands(*leading: int, n: int = 16, k: int = 8, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(3)
    shapes = ((*leading, k), (n, k), (n,))
    return [torch.randn(each, generator=generator).to(device, dtype) for each in shapes]


def leaves(*tensors):
    return [each.detach().clone().requires_grad_() for each in tensors]


def with_gradients(function, *given):
    y = function(*given)
    wanted = [each for each in given if isinstance(each, torch.Tensor) and each.requires_grad]
    return y, *torch.autograd.grad(y.sin().sum(), wanted)


def block(x, weight, bias, scale):
    return fusedops.gemm_sig_res(x.cos(), weight, bias, scale) * 2


@pytest.mark.supports(
    "torch.compile, fullgraph, static and dynamic, with gradients, every compiler"
)
@pytest.mark.parametrize(("device", "compiler"), ON)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("scale", [2.0, 20.0, "a tensor"])
def test_compiles_whole(device, compiler, dynamic, scale):
    compiled = torch.compile(block, fullgraph=True, dynamic=dynamic, backend=compiler)
    for rows in (4, 9):
        given = leaves(*operands(rows, device=device))
        changing = torch.tensor(2.0, device=device, requires_grad=True)
        given.append(changing if scale == "a tensor" else scale)
        expected = with_gradients(block, *given)
        torch.testing.assert_close(with_gradients(compiled, *given), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.supports("torch.compile of the operator itself, by name, with a number or a tensor")
def test_the_operator_compiles():
    x, weight, bias = operands(4)
    scale = torch.tensor(2.0, requires_grad=True)
    compiled = torch.compile(
        lambda x, s: RAW(x, weight, bias, s) + RAW(x, weight, scale=3.0) + RAW(x, weight),
        fullgraph=True,
        backend="aot_eager",
    )
    y = compiled(x, scale)
    expected = sum(
        fusedops.gemm_sig_res(x, weight, *others) for others in ((bias, 2.0), (None, 3.0), ())
    )
    torch.testing.assert_close(y.detach(), expected)
    assert torch.autograd.grad(y.sum(), scale)[0] != 0


@pytest.mark.supports("torch.compile obeys backend= and use_backend")
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_forced_backends(compiler, backend):
    if backend in fusedops.backends.missing():
        pytest.skip(fusedops.backends.missing()[backend])
    x, weight, bias = operands(4)
    named = torch.compile(
        lambda x: fusedops.gemm_sig_res(x, weight, bias, 2.0, backend=backend),
        fullgraph=True,
        backend=compiler,
    )
    free = torch.compile(
        lambda x: fusedops.gemm_sig_res(x, weight, bias, 2.0), fullgraph=True, backend=compiler
    )
    ran = {"cpu": "fusedops.cpu.blocked", "reference": "fusedops.torch.reference"}[backend]
    with torch.profiler.profile(activities=HOST) as profile:
        named(x)
    assert [e.name for e in profile.events() if e.name.startswith("fusedops.")] == [ran]
    with fusedops.use_backend(backend), torch.profiler.profile(activities=HOST) as profile:
        free(x)
    assert [e.name for e in profile.events() if e.name.startswith("fusedops.")] == [ran]
    with pytest.raises(fusedops.NoKernelError), fusedops.use_backend("cuda"):
        free(x)


@pytest.mark.supports("no recompilation for new batch sizes")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_no_recompilation_for_new_batch_sizes(compiler):
    layer = fusedops.GemmSigRes(8, 16, 2.0)
    compiled = torch.compile(layer, fullgraph=True, backend=compiler)
    for rows in (4, 6):  # the second size is what makes the dimension dynamic
        with_gradients(compiled, torch.randn(rows, 8, requires_grad=True))
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in (5, 7, 64, 333):
            x = torch.randn(rows, 8, requires_grad=True)
            torch.testing.assert_close(with_gradients(compiled, x), with_gradients(layer, x))


@pytest.mark.supports("no recompilation for new values of a scale that is a tensor")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_no_recompilation_for_new_values_of_a_tensor_scale(compiler):
    scheduled = fusedops.GemmSigRes(8, 16, torch.tensor(0.5))
    compiled = torch.compile(scheduled, fullgraph=True, backend=compiler)
    x = torch.randn(4, 8, requires_grad=True)
    compiled(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for value in (-50.0, 0.0, 1.0, 3.5, 1e3):
            scheduled.scale.fill_(value)
            torch.testing.assert_close(
                with_gradients(compiled, x), with_gradients(scheduled, x), rtol=1e-5, atol=1e-4
            )


@pytest.mark.supports(
    "a number as scale is never stale, but new values may recompile", answer="slow"
)
def test_a_number_as_scale_may_recompile():
    x, weight, bias = operands(4)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, backend=counter)
    values = (0.5, 1.5, 2.5, 3.5, 20.0)
    for value in values:
        given = leaves(x, weight, bias)
        torch.testing.assert_close(
            with_gradients(compiled, *given, value), with_gradients(block, *given, value)
        )
    assert 1 < counter.frame_count <= len(values) + 1
    for value in values[:3]:  # and none is taken from the caches of what was compiled before
        torch._dynamo.reset()
        cached = torch.compile(block, fullgraph=True)
        expected = block(x, weight, bias, value)
        torch.testing.assert_close(cached(x, weight, bias, value), expected)


@pytest.mark.supports("compiled training keeps one tensor as large as the result")
def test_compiled_training_keeps_one_large_tensor():
    compiled = torch.compile(
        lambda *given: fusedops.gemm_sig_res(*given, 2.0), fullgraph=True, backend="aot_eager"
    )
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = compiled(*leaves(*operands(32)))
    assert len({each.data_ptr() for each in kept if each.numel() == y.numel()}) == 1


@pytest.mark.supports("compiled autograd")
def test_compiled_autograd():
    given = leaves(*operands(4))
    expected = with_gradients(block, *given, 2.0)[1:]
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        block(*given, 2.0).sin().sum().backward()
    torch.testing.assert_close(tuple(each.grad for each in given), expected)


@pytest.mark.supports("compiled autocast, out= and inference_mode")
def test_compiled_with_autocast_out_and_inference_mode():
    x, weight, bias = operands(4)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        y = compiled(x, weight, bias, 2.0)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y, block(x, weight, bias, 2.0))
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x, weight, bias, 2.0), block(x, weight, bias, 2.0))

    def into(x, out):
        fusedops.gemm_sig_res(x, weight, bias, 2.0, out=out)
        return out + 1

    for compiler in ("aot_eager", "inductor"):
        out = torch.empty(4, 16)
        y = torch.compile(into, fullgraph=True, backend=compiler)(x, out)
        torch.testing.assert_close(out, fusedops.gemm_sig_res(x, weight, bias, 2.0))
        torch.testing.assert_close(y, out + 1)


@pytest.mark.supports("torch.export with a dynamic batch size, saved, loaded and decomposed")
def test_export(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), fusedops.GemmSigRes(8, 16, 2.0))
    rows = torch.export.Dim("rows", min=2, max=1024)
    program = torch.export.export(model, (torch.randn(4, 8),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    x = torch.randn(7, 8)
    for each in (program, loaded, loaded.run_decompositions()):
        assert "fusedops.gemm_sig_res" in str(each.graph)
        torch.testing.assert_close(each.module()(x), model(x))


LOAD = """
import sys, torch, fusedops
x = torch.load(sys.argv[2])
torch.save(torch._inductor.aoti_load_package(sys.argv[1])(x), sys.argv[3])
"""


@pytest.mark.supports("AOTInductor, loaded by another Python process that imports fusedops")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_ahead_of_time_inductor(device, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), fusedops.GemmSigRes(8, 16, 2.0)).to(device)
    x = torch.randn(7, 8, device=device)
    rows = torch.export.Dim("rows", min=2, max=1024)
    program = torch.export.export(model, (x[:4],), dynamic_shapes=({0: rows},))
    with torch.no_grad():
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "model.pt2")
        )
        expected = model(x)
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-c", LOAD, package, tmp_path / "x.pt", tmp_path / "y.pt"]
    environment = dict(os.environ, CUDA_MODULE_LOADING="LAZY")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), expected)


@pytest.mark.gpu
@pytest.mark.supports('torch.compile(mode="reduce-overhead"), with gradients and a changing scale')
@pytest.mark.parametrize("scale", [2.0, 20.0, "a tensor"])
def test_reduce_overhead(scale):
    compiled = torch.compile(block, mode="reduce-overhead", fullgraph=True)
    changing = torch.tensor(2.0, device="cuda", requires_grad=True)
    given = leaves(*operands(64, n=64, k=64, device="cuda"))
    given.append(changing if scale == "a tensor" else scale)
    for value in (2.0, 2.0, 2.0, -7.0, 30.0):  # record, warm up, replay
        changing.data.fill_(value)
        torch.compiler.cudagraph_mark_step_begin()
        got = [each.clone() for each in with_gradients(compiled, *given)]
        for one, other in zip(got, with_gradients(block, *given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)


CAPTURE = """
import torch, fusedops
torch.manual_seed(0)
shapes = (({rows}, 256), (512, 256), (512,))
given = [torch.randn(each, device="cuda", dtype=torch.bfloat16) for each in shapes]
given = [each.requires_grad_() for each in given]
scale = {scale}

def grad(function):
    y = function(*given)
    return y, *torch.autograd.grad(y.sum(), given)

side = torch.cuda.Stream()
with torch.cuda.stream(side):  # cuBLAS's first call must not be inside a capture
    grad(torch.nn.functional.linear)
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    captured = grad(lambda *given: fusedops.gemm_sig_res(*given, scale))
for _ in range(2):
    with torch.no_grad():
        for each in given:
            each.copy_(torch.randn_like(each))
    graph.replay()
    now = grad(lambda *given: fusedops.gemm_sig_res(*given, scale))
    for one, other in zip(captured, now):
        assert (one - other).abs().max() <= 2e-2 * other.abs().max()
print("captured")
"""


@pytest.mark.gpu
@pytest.mark.supports("CUDA graphs of a forward and backward pass, the process's first call inside")
@pytest.mark.parametrize("rows", [8, 512])
@pytest.mark.parametrize("scale", ["2.0", "20.0", "torch.tensor(2.0, device='cuda')"])
def test_a_first_call_inside_a_capture(rows, scale):
    code = CAPTURE.format(rows=rows, scale=scale)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "captured", done.stderr


@pytest.mark.gpu
@pytest.mark.supports("torch.cuda.make_graphed_callables, for training")
def test_graphed_callables():
    layer = fusedops.GemmSigRes(64, 128, 2.0, device="cuda")
    x = torch.randn(32, 64, device="cuda", requires_grad=True)
    # Of copies: what has been through a graph of its own may not be captured.
    expected = with_gradients(copy.deepcopy(layer), x.detach().clone().requires_grad_())
    graphed = torch.cuda.make_graphed_callables(layer, (x,))
    torch.testing.assert_close(with_gradients(graphed, x), expected)
