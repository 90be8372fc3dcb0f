"""The CUDA driver, as far as a launch needs it: code loaded, matrices described, a kernel run.

Its interface is stable, which Triton's own launcher is not from release to release; and it is
called with arguments packed beforehand, where Triton's launcher inspects every one on every call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import torch

MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
PREFER_SHARED = 1
INVALID_CONTEXT = 201
FREE_SHARED_MEMORY = 49152
"""What a kernel may have without asking."""

TENSOR_MAP_BYTES = 128
TENSOR_MAP_ALIGNMENT = 64
_ELEMENTS = {torch.float16: 6, torch.float32: 7, torch.bfloat16: 9}
_NOT_INTERLEAVED, _PROMOTE_128_BYTES, _OUTSIDE_IS_ZERO = 0, 2, 0


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


class DriverError(RuntimeError):
    """What the driver said, and of which call."""

    def __init__(self, call: str, code: int) -> None:
        text = ctypes.c_char_p()
        library().cuGetErrorString(code, ctypes.byref(text))
        described = text.value.decode() if text.value else "unknown error"
        super().__init__(f"{call}: {described} (CUDA error {code})")


def call(name: str, *arguments: object) -> None:
    """Call the driver; raise what it answers."""
    code = getattr(library(), name)(*arguments)
    if code:
        raise DriverError(name, code)


def ensure_context(device: int) -> None:
    """Give this thread a context if it has none yet: a thread gets one with its first CUDA call."""
    ordinal, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuCtxGetCurrent", ctypes.byref(context))
    if context.value:
        return
    call("cuDeviceGet", ctypes.byref(ordinal), device)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), ordinal)
    call("cuCtxSetCurrent", context)


def load(image: bytes, name: str, shared: int) -> ctypes.c_void_p:
    """The handle of a kernel in the current context, allowed its ``shared`` bytes."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), image)
    call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
    if shared > FREE_SHARED_MEMORY:
        call("cuFuncSetCacheConfig", function, PREFER_SHARED)
        call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
    return function


def resident(function: ctypes.c_void_p, threads: int, shared: int) -> int:
    """How many blocks of a kernel a multiprocessor has room for."""
    blocks = ctypes.c_int()
    call(
        "cuOccupancyMaxActiveBlocksPerMultiprocessor",
        ctypes.byref(blocks),
        function,
        threads,
        ctypes.c_size_t(shared),
    )
    return blocks.value


STATIC_SHARED_BYTES, LOCAL_BYTES, REGISTERS = 1, 3, 4
"""Attributes of a kernel: of a block, and of a thread."""


def attribute(function: ctypes.c_void_p, which: int) -> int:
    value = ctypes.c_int()
    call("cuFuncGetAttribute", ctypes.byref(value), which, function)
    return value.value


class TensorMap:
    """A row-major matrix as TMA reads and writes it, a box at a time."""

    __slots__ = ("_storage", "address")

    def __init__(
        self,
        data: int,
        dtype: torch.dtype,
        shape: tuple[int, int],
        row_stride: int,
        box: Sequence[int],
        swizzle: int,
    ) -> None:
        self._storage = ctypes.create_string_buffer(TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT)
        self.address = -(-ctypes.addressof(self._storage) // TENSOR_MAP_ALIGNMENT)
        self.address *= TENSOR_MAP_ALIGNMENT
        call(
            "cuTensorMapEncodeTiled",
            ctypes.c_void_p(self.address),
            _ELEMENTS[dtype],
            2,
            ctypes.c_void_p(data),
            (ctypes.c_uint64 * 2)(shape[1], shape[0]),
            (ctypes.c_uint64 * 1)(row_stride * dtype.itemsize),
            (ctypes.c_uint32 * 2)(box[1], box[0]),
            (ctypes.c_uint32 * 2)(1, 1),
            _NOT_INTERLEAVED,
            swizzle,
            _PROMOTE_128_BYTES,
            _OUTSIDE_IS_ZERO,
        )
