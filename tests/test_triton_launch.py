"""How the Triton kernels are launched, against a driver that records what it is given."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from fusedops.registry import H200, Problem
from fusedops.triton_kernels import KERNELS, PERSISTENT_TMA, PINGPONG, SKINNY, TILED

pytest.importorskip("triton")

from fusedops.triton_kernels import driver, launch, packet

BF16 = torch.bfloat16
STREAM = 0x5EED
RESIDENT = 2
INVALID_VALUE, INVALID_CONTEXT = 1, 201
ATTRIBUTE_WORDS = 9
SIZES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "fp64": ctypes.c_double}


class Config(ctypes.Structure):
    """CUlaunchConfig, as cuda.h has it."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("x", "y", "z", "threads", "ty", "tz", "shared")),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    )


class Driver:
    """libcuda, as far as the kernels call it."""

    def __init__(self):
        self.launches = []
        self.encoded = []
        self.answers = []
        self.contexts = 0
        self.parameters = ()
        self.during_launch = None

    def cuGetErrorString(self, code, text):
        text._obj.value = b"what went wrong"

    def cuCtxGetCurrent(self, context):
        context._obj.value = self.contexts or None

    def cuDeviceGet(self, ordinal, device):
        ordinal._obj.value = device

    def cuDevicePrimaryCtxRetain(self, context, ordinal):
        context._obj.value = 77

    def cuCtxSetCurrent(self, context):
        self.contexts = context.value

    def cuModuleLoadData(self, module, image):
        module._obj.value = 1

    def cuModuleGetFunction(self, function, module, name):
        function._obj.value = 0xF00

    def cuFuncSetCacheConfig(self, function, preference):
        pass

    def cuFuncSetAttribute(self, function, attribute, value):
        pass

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, blocks, function, threads, shared):
        blocks._obj.value = RESIDENT

    def cuTensorMapEncodeTiled(self, place, element, rank, data, shape, strides, box, *rest):
        assert place.value % driver.TENSOR_MAP_ALIGNMENT == 0
        self.encoded.append(data.value)
        map_of = (ctypes.c_uint64 * 4)(data.value, *shape, *strides)
        ctypes.memmove(place, map_of, ctypes.sizeof(map_of))

    def cuLaunchKernelEx(self, config, function, addresses, extra):
        if self.during_launch is not None:
            nested, self.during_launch = self.during_launch, None
            nested()
        answer = self.answers.pop(0) if self.answers else 0
        if not answer:
            self.launches.append(self.read(config, addresses) | {"function": function.value})
        return answer

    def read(self, config, addresses):
        """The launch as the driver sees it: its configuration, and every argument by its type."""
        table = (ctypes.c_void_p * len(self.parameters)).from_address(addresses.value)
        shape = Config.from_buffer_copy(Config.from_address(config.value))
        words = ctypes.c_uint64 * (ATTRIBUTE_WORDS * shape.attribute_count)
        attributes = words.from_address(shape.attributes) if shape.attribute_count else ()
        launched = {
            "config": shape,
            "attributes": list(
                zip(attributes[::ATTRIBUTE_WORDS], attributes[1::ATTRIBUTE_WORDS], strict=True)
            ),
        }
        for (name, kind), place in zip(self.parameters, table, strict=True):
            if kind == launch.TENSOR_MAP:
                launched[name] = tuple((ctypes.c_uint64 * 4).from_address(place))
            else:
                launched[name] = SIZES.get(kind, ctypes.c_uint64).from_address(place).value
        return launched


@pytest.fixture
def fake(monkeypatch):
    made = Driver()
    monkeypatch.setattr(driver, "library", lambda: made)
    monkeypatch.setattr(packet, "current_stream", lambda device: STREAM)
    monkeypatch.setattr(launch, "_loaded", {})
    return made


@pytest.fixture
def compilations(monkeypatch):
    """Every specialization compiled, without compiling it."""
    compiled = []

    def compile(self, capability):
        compiled.append(self)
        maps = [kind for kind in self.types.values() if kind.startswith("tensordesc")]
        metadata = SimpleNamespace(
            name=self.function.__name__,
            num_warps=self.num_warps,
            shared=99_000,
            global_scratch_size=0,
            profile_scratch_size=0,
            tensordesc_meta=[{"block_size": [64, 64], "swizzle": 3} for _ in maps],
        )
        return SimpleNamespace(asm={"cubin": b"code"}, metadata=metadata)

    monkeypatch.setattr(launch.Specialization, "compile", compile)
    return compiled


def prepared(fake, kernel, problem):
    module = import_module(f"fusedops.triton_kernels.{kernel.name.removeprefix('triton.')}")
    config = kernel.configs(problem)[0]
    fake.parameters = module.specialization(problem, config).parameters
    return kernel.prepare(problem, config), config


def problem(m=1000, n=520, k=512, bias=BF16):
    return Problem.contiguous(m, n, k, BF16, bias_dtype=bias, card=H200)


def operands(asked):
    shapes = ((asked.m, asked.k), (asked.n, asked.k), (asked.m, asked.n))
    return [torch.empty(shape, dtype=BF16) for shape in shapes]


@pytest.mark.parametrize("bias_dtype", [None, BF16, torch.float32], ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_the_driver_gets_what_the_call_was_given(fake, compilations, kernel, bias_dtype):
    asked = problem(m=16 if kernel is SKINNY else 1000, bias=bias_dtype)
    run, config = prepared(fake, kernel, asked)
    x, weight, out = operands(asked)
    bias = None if bias_dtype is None else torch.empty(asked.n, dtype=bias_dtype)
    run(x, weight, bias, 0.75, out)
    run(weight, x, bias, -2.0, out)
    launched, swapped = fake.launches

    tiles = config.tiles(asked)
    shape = launched["config"]
    programs = min(tiles, 132 * RESIDENT) if kernel in (PERSISTENT_TMA, PINGPONG) else tiles
    assert (shape.x, shape.y, shape.z) == (programs, 1, 1)
    assert (shape.threads, shape.ty, shape.tz) == (32 * config.num_warps, 1, 1)
    assert (shape.shared, shape.stream) == (99_000, STREAM)
    assert launched["attributes"] == ([(6, 1)] if kernel in (PERSISTENT_TMA, SKINNY) else [])
    assert launched["function"] == 0xF00
    assert (launched["M"], launched["N"], launched["K"]) == (asked.m, asked.n, asked.k)
    assert (launched["scale"], swapped["scale"]) == (0.75, -2.0)
    if bias is not None:
        assert launched["bias"] == bias.data_ptr()
    assert launched["global scratch"] == launched["profile scratch"] == 0

    def address(value):
        return value[0] if isinstance(value, tuple) else value

    given = [address(launched[name]) for name in ("x", "weight", "out")]
    assert given == [each.data_ptr() for each in (x, weight, out)]
    assert [address(swapped[name]) for name in ("x", "weight")] == given[1::-1]
    if kernel in (PERSISTENT_TMA, PINGPONG):
        assert launched["x"] == (x.data_ptr(), asked.k, asked.m, 2 * asked.k)
        assert launched["weight"] == (weight.data_ptr(), asked.k, asked.n, 2 * asked.k)
        assert launched["out"] == (out.data_ptr(), asked.n, asked.m, 2 * asked.n)


def test_a_tensor_map_is_encoded_once_for_an_address(fake, compilations):
    asked = problem()
    run, _ = prepared(fake, PERSISTENT_TMA, asked)
    x, weight, out = operands(asked)
    others = [torch.empty_like(out) for _ in range(3)]
    for _ in range(5):
        for result in others:
            run(x, weight, None, 1.0, result)
    assert sorted(fake.encoded) == sorted(each.data_ptr() for each in (x, weight, *others))


def test_tensor_maps_kept_are_bounded(fake, compilations, monkeypatch):
    monkeypatch.setattr(packet, "MOST_TENSOR_MAPS", 4)
    expected = {"block_size": [8, 8], "swizzle": 0}
    maps = packet.TensorMaps(packet.Matrix(BF16, (8, 8), 8), expected, 0)
    for address in range(16, 176, 16):
        assert maps[address].address % driver.TENSOR_MAP_ALIGNMENT == 0
        assert len(maps) <= 4


def test_columns_that_tma_cannot_store_are_given_as_a_pointer(fake, compilations):
    asked = problem(n=521)
    run, _ = prepared(fake, PERSISTENT_TMA, asked)
    x, weight, out = operands(asked)
    run(x, weight, torch.empty(asked.n, dtype=BF16), 1.0, out)
    assert fake.launches[0]["out"] == out.data_ptr()


@pytest.mark.parametrize("kernel", [TILED, PERSISTENT_TMA], ids=lambda kernel: kernel.name)
def test_a_launch_within_a_launch_has_a_packet_of_its_own(fake, compilations, kernel):
    """As another thread's would, while the driver has let go of the interpreter's lock."""
    asked = problem(bias=None)
    run, _ = prepared(fake, kernel, asked)
    x, weight, out = operands(asked)
    other = torch.empty_like(out)
    fake.during_launch = lambda: run(x, weight, None, 9.0, other)
    run(x, weight, None, 1.0, out)
    inner, outer = fake.launches
    assert (inner["scale"], outer["scale"]) == (9.0, 1.0)
    assert inner["out"] != outer["out"]


def test_a_thread_without_a_context_gets_one(fake, compilations):
    asked = problem(bias=None)
    run, _ = prepared(fake, TILED, asked)
    x, weight, out = operands(asked)
    run(x, weight, None, 1.0, out)
    fake.contexts, fake.answers = 0, [INVALID_CONTEXT]
    run(x, weight, None, 1.0, out)
    assert fake.contexts == 77
    assert len(fake.launches) == 2


def test_what_the_driver_says_is_raised(fake, compilations):
    asked = problem(bias=None)
    run, _ = prepared(fake, TILED, asked)
    x, weight, out = operands(asked)
    fake.answers = [INVALID_VALUE]
    with pytest.raises(driver.DriverError, match="cuLaunchKernelEx: what went wrong"):
        run(x, weight, None, 1.0, out)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_three_new_sizes_in_a_row_compile_once(fake, compilations, kernel):
    for m in (9, 10, 11) if kernel is SKINNY else (1000, 1001, 1002):
        asked = problem(m=m, bias=None)
        assert kernel.ready(asked, kernel.configs(asked)[0]) == bool(compilations)
        run, _ = prepared(fake, kernel, asked)
        x, weight, out = operands(asked)
        run(x, weight, None, 1.0, out)
    assert len(compilations) == 1


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_preparing_on_its_card_leaves_nothing_to_compile(fake, compilations, kernel, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    asked = problem(m=16)
    config = kernel.configs(asked)[0]
    assert not kernel.ready(asked, config)
    kernel.prepare(asked, config)
    assert kernel.ready(asked, config)
    assert len(compilations) == 1


@pytest.mark.parametrize("capability", [(8, 9), (9, 0)])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_machine_code_takes_the_parameters_that_are_packed(kernel, capability):
    asked = replace(problem(m=16, bias=torch.float32), capability=capability)
    if kernel.why_not(asked):
        pytest.skip(kernel.why_not(asked)[0])
    module = import_module(f"fusedops.triton_kernels.{kernel.name.removeprefix('triton.')}")
    special = module.specialization(asked, kernel.configs(asked)[0])
    compiled = special.compile(capability)
    header = compiled.asm["ptx"].split(".visible .entry", 1)[1].split(")", 1)[0]
    taken = [line.split()[1:] for line in header.splitlines() if ".param" in line]
    assert len(taken) == len(special.parameters)
    for words, (name, kind) in zip(taken, special.parameters, strict=True):
        width = {"i32": "32", "fp64": "64", "i64": "64"}.get(kind, "64")
        if kind == launch.TENSOR_MAP:
            assert words[:3] == [".align", "64", ".b8"], name
            assert words[-1].rstrip(",").endswith("[128]"), name
        else:
            assert words[0].endswith(width), (name, kind, words)
    assert not compiled.metadata.global_scratch_size
    assert not compiled.metadata.profile_scratch_size
