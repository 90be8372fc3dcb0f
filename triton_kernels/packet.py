"""Launching with arguments packed beforehand.

From call to call a plan's launch changes in a stream, four addresses and a scale. They are written
into a packet, memory that the driver reads as it is: a CUlaunchConfig, the address of every
argument, the arguments, eight bytes each, and an attribute of the launch. A packet serves one
launch at a time; a plan keeps those it has made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fusedops.registry import Launch

from . import driver
from .launch import Code, Specialization, load

WORD = 8
CONFIG_WORDS = 7
STREAM = 4
ATTRIBUTES = 5
"""Where CUlaunchConfig keeps the stream, and the attributes' address before their number."""

ATTRIBUTE_WORDS = 9
PROGRAMMATIC_STREAM_SERIALIZATION = 6

MOST_TENSOR_MAPS = 1024
"""Of one operand of one plan: a model has fewer layers of one shape."""

current_stream: Callable[[int], int] = getattr(
    torch._C,
    "_cuda_getCurrentRawStream",
    lambda device: torch.cuda.current_stream(device).cuda_stream,
)


@dataclass(frozen=True)
class Matrix:
    """An operand that is read or written through a tensor map."""

    dtype: torch.dtype
    shape: tuple[int, int]
    row_stride: int


@dataclass(frozen=True)
class Arguments:
    """What a plan launches with: everything but the stream, the addresses and the scale.

    persistent_on: the multiprocessors that a persistent kernel fills; None: a program a tile.
    overlap: whether the kernel itself waits for the earlier ones, so that its launch need not.
    """

    specialization: Specialization
    capability: tuple[int, int]
    tiles: int
    sizes: Mapping[str, int]
    persistent_on: int | None = None
    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    overlap: bool = False

    def programs(self, code: Code) -> int:
        if self.persistent_on is None:
            return self.tiles
        return min(self.tiles, self.persistent_on * code.resident)

    def place(self, name: str) -> int:
        """The word of a packet that changes with an argument: its value's or, of a tensor map's,
        the one that says where it is."""
        names = [each for each, _ in self.specialization.parameters]
        address = CONFIG_WORDS + names.index(name)
        return address if name in self.matrices else address + len(names)


class Packet:
    """The memory that the driver reads during one launch."""

    __slots__ = ("addresses", "config", "doubles", "words")

    def __init__(self, arguments: Arguments, code: Code) -> None:
        names = [name for name, _ in arguments.specialization.parameters]
        values = CONFIG_WORDS + len(names)
        attribute = values + len(names)
        words = (ctypes.c_uint64 * (attribute + ATTRIBUTE_WORDS))()
        start = ctypes.addressof(words)
        dimensions = (ctypes.c_uint32 * 7).from_buffer(words)
        dimensions[:] = [arguments.programs(code), 1, 1, code.threads, 1, 1, code.shared]
        for index, name in enumerate(names):
            words[CONFIG_WORDS + index] = start + WORD * (values + index)
            words[values + index] = arguments.sizes.get(name, 0)
        if arguments.overlap:
            words[ATTRIBUTES], words[ATTRIBUTES + 1] = start + WORD * attribute, 1
            words[attribute], words[attribute + 1] = PROGRAMMATIC_STREAM_SERIALIZATION, 1

        self.words = words
        self.doubles = (ctypes.c_double * len(words)).from_buffer(words)
        self.config = ctypes.c_void_p(start)
        self.addresses = ctypes.c_void_p(start + WORD * CONFIG_WORDS)


class TensorMaps(dict[int, driver.TensorMap]):
    """The tensor maps of one operand by its address; each is encoded when first asked for."""

    def __init__(self, matrix: Matrix, expected: Mapping[str, Any], device: int) -> None:
        super().__init__()
        self.matrix = matrix
        self.expected = expected
        self.device = device

    def __missing__(self, address: int) -> driver.TensorMap:
        driver.ensure_context(self.device)
        encoded = driver.TensorMap(
            address,
            self.matrix.dtype,
            self.matrix.shape,
            self.matrix.row_stride,
            self.expected["block_size"],
            self.expected["swizzle"],
        )
        if len(self) >= MOST_TENSOR_MAPS:
            self.clear()
        self[address] = encoded
        return encoded


class Ready(dict[int, tuple[Code, list[Packet], list[TensorMaps]]]):
    """By device: the code, the packets that no launch is using, the tensor maps of each matrix.

    Loaded on the current device at once, if the code is for such a card; on others when first used.
    """

    def __init__(self, arguments: Arguments) -> None:
        super().__init__()
        self.arguments = arguments
        here = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
        if here == arguments.capability:
            self[torch.cuda.current_device()]

    def __missing__(self, device: int) -> tuple[Code, list[Packet], list[TensorMaps]]:
        arguments = self.arguments
        code = load(arguments.specialization, arguments.capability, device)
        pairs = zip(arguments.matrices.values(), code.tensor_maps, strict=True)
        self[device] = (code, [], [TensorMaps(*pair, device) for pair in pairs])
        return self[device]


def launch_packed(arguments: Arguments) -> Launch:
    """The launch of a kernel that takes its operands as pointers, or through tensor maps."""
    ready = Ready(arguments)
    start = driver.library().cuLaunchKernelEx
    x_place, weight_place, out_place, scale_place = map(
        arguments.place, ("x", "weight", "out", "scale")
    )
    bias_place = _bias_place(arguments)

    def run(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        out: torch.Tensor,
    ) -> None:
        device = x.get_device()
        code, packets, maps = ready[device]
        try:
            packet = packets.pop()
        except IndexError:
            packet = Packet(arguments, code)
        words = packet.words
        words[STREAM] = current_stream(device)
        if maps:
            # They are held here until the driver has read them: another thread may drop them.
            x_map, weight_map = maps[0][x.data_ptr()], maps[1][weight.data_ptr()]
            out_map = maps[2][out.data_ptr()] if len(maps) > 2 else None
            words[x_place] = x_map.address
            words[weight_place] = weight_map.address
            words[out_place] = out.data_ptr() if out_map is None else out_map.address
        else:
            words[x_place] = x.data_ptr()
            words[weight_place] = weight.data_ptr()
            words[out_place] = out.data_ptr()
        if bias is not None:
            words[bias_place] = bias.data_ptr()
        packet.doubles[scale_place] = scale
        failed = start(packet.config, code.function, packet.addresses, None)
        if failed:
            _again(failed, device, packet, code)
        packets.append(packet)

    return run


def _bias_place(arguments: Arguments) -> int:
    return 0 if "bias" in arguments.specialization.constants else arguments.place("bias")


def _again(failed: int, device: int, packet: Packet, code: Code) -> None:
    """Launch from a thread that had no context; raise what else went wrong."""
    if failed != driver.INVALID_CONTEXT:
        raise driver.DriverError("cuLaunchKernelEx", failed)
    driver.ensure_context(device)
    driver.call("cuLaunchKernelEx", packet.config, code.function, packet.addresses, None)
