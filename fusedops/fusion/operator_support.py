"""What the operator itself takes in this build, asked of PyTorch's dispatcher."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from fusedops import library

NAME = f"{library.NAMESPACE}::gemm_sig_res"
NUMBER = library.gemm_sig_res.default  # the overload whose scale is a number


@cache
def tensor_scale() -> Any | None:
    """The overload whose scale is a 0-d tensor, if there is one."""
    packet = library.gemm_sig_res
    for name in packet.overloads():
        overload = getattr(packet, name)
        arguments = overload._schema.arguments
        scale = next((each for each in arguments if each.name == "scale"), None)
        if scale is not None and isinstance(scale.type, torch.TensorType) and _returns(overload):
            return overload
    return None


def _returns(overload: Any) -> bool:
    """Whether it makes its result, rather than write it to an ``out`` argument."""
    return not any(each.is_out for each in overload._schema.arguments)


@cache
def follows_autocast(device_type: str) -> bool:
    key = f"Autocast{device_type.upper()}"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(NAME, key))
