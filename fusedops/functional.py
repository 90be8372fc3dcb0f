"""The Python face of the operator."""

from __future__ import annotations

import torch

from fusedops import library, plans
from fusedops.checks import check, check_out, check_scale_tensor, check_types
from fusedops.override import asked, parse, request
from fusedops.registry import Explanation


def gemm_sig_res(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float | torch.Tensor = 1.0,
    *,
    backend: str | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = z + scale * sigmoid(z), with z = x @ weight.T + bias, in one kernel.

    Args:
        x: (..., K), float16, bfloat16, float32 or float64, any strides.
        weight: (N, K), x's dtype, any strides.
        bias: (N,), x's dtype or float32; None for no bias.
        scale: a number, the same for every element; or a 0-d tensor of any floating dtype on x's
            device, which may require a gradient, and whose value is read where the kernel runs:
            changing it neither recompiles anything nor waits for the device.
        backend: a backend ("auto", "cuda", "triton", "cpu", "reference") or a kernel's name, before
            what ``use_backend`` and FUSEDOPS_BACKEND say. Named, it is obeyed or refused.
        out: the result's tensor, (..., N), x's dtype. Not differentiable, for a number as scale,
            and without ``backend``.

    Returns:
        (..., N), contiguous, in x's dtype: evaluated in at least float32 and rounded once, to the
        bound of ``fusedops.numerics.error_bound``. float32 uses TF32 only where
        ``torch.backends.cuda.matmul.fp32_precision`` allows it.

    Raises:
        TypeError: an argument's type or dtype does not fit.
        ValueError: shapes or devices do not fit, or the backend's name is unknown.
        RuntimeError: the machine cannot do what was asked (``fusedops.NoKernelError``), or a
            gradient is needed through ``out``.
    """
    compiling = torch.compiler.is_compiling()
    if out is not None:
        return _into(out, x, weight, bias, scale, backend)
    if not compiling and type(scale) is float and library.is_plain(x, weight, bias):
        return plans.compute(x, weight, bias, scale, backend)
    check_types(x, weight, bias, scale)
    if compiling:  # else the error would come wrapped in the compiler's own
        check(x, weight, bias)
    overload = "default"
    if isinstance(scale, torch.Tensor):
        check_scale_tensor(scale, x)
        overload = "tensor"
    if backend is None:
        y: torch.Tensor = getattr(library.gemm_sig_res, overload)(x, weight, bias, scale)
        return y
    parse(backend)
    forced: torch.Tensor = getattr(library.gemm_sig_res_on, overload)(
        x, weight, bias, scale, backend
    )
    return forced


def _into(
    out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | torch.Tensor,
    backend: str | None,
) -> torch.Tensor:
    check_types(x, weight, bias, scale)
    if isinstance(scale, torch.Tensor) or backend is not None:
        raise TypeError("out takes a number as scale and no backend: use use_backend() for one")
    check_out(out, check(x, weight, bias), x)
    library.gemm_sig_res.out(x, weight, bias, scale, out=out)
    return out


def explain(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    *,
    backend: str | None = None,
) -> Explanation:
    """Which kernel ``gemm_sig_res`` would run for these arguments, why, and why not the others.

    Returns an object with ``backend``, ``kernel``, ``config``, ``why`` and ``candidates`` (each of
    ``kernel``, ``backend`` and ``reasons``); its ``str()`` is a table. Raises as gemm_sig_res does.
    """
    check_types(x, weight, bias, scale)
    shape = check(x, weight, bias)
    if 0 in (*shape, x.shape[-1]):
        why = "there is nothing to multiply: the result is answered without a kernel"
        return Explanation("", "", "", "", why, ())
    return plans.explain(plans.describe(x, weight, bias), request(*asked(backend)))


def prepare(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    backend: str | None = None,
) -> Explanation:
    """Compile, now, the kernel that is fastest for operands like these.

    Calls never wait for a compiler where a kernel compiled ahead of time can serve; this lets them
    use one that is compiled on demand. Returns what they run from now on. Raises as gemm_sig_res
    does.
    """
    check_types(x, weight, bias, 1.0)
    shape = check(x, weight, bias)
    if 0 not in (*shape, x.shape[-1]):
        plans.prepare(x, weight, bias, backend)
    return explain(x, weight, bias, backend=backend)
