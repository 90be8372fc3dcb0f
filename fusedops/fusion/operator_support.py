"""What the operator itself takes in this build, asked of PyTorch's dispatcher."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from fusedops import library

NUMBER: Any = library.gemm_sig_res.default  # the overload whose scale is a number


@cache
def tensor_scale() -> Any | None:
    """The overload whose scale is a 0-d tensor, if there is one."""
    return getattr(library.gemm_sig_res, "tensor", None)


@cache
def follows_autocast(device_type: str) -> bool:
    name = f"{library.NAMESPACE}::gemm_sig_res"
    key = f"Autocast{device_type.upper()}"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, key))
