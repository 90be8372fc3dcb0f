"""QuACK's fused GEMM with the operator as its epilogue; importing this needs quack-kernels.

QuACK fingerprints the epilogue by its source and by what it refers to, and finds it again by module
and name, so it is a function of a module of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from quack.activation import sigmoid
from quack.epilogue.frontend import gemm_epilogue
from quack.epilogue.ops import RowVecLoad

from fusedops.bench.workload import SCALE


@gemm_epilogue(ops={"bias": RowVecLoad("bias")})  # type: ignore[untyped-decorator]
def sigmoid_residual(acc: Any, bias: Any) -> dict[str, Any]:
    z = acc + bias
    return {"D": z + sigmoid(z) * SCALE}


def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Tuned by QuACK's own search at the first call of each shape."""
    y: torch.Tensor = sigmoid_residual(x, weight.t(), bias=bias[None])["D"]
    return y
