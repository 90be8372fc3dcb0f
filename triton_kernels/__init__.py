"""The Triton kernels, as values; Triton itself is imported when one is prepared."""

if __name__ != "fusedops.triton_kernels":
    raise ImportError(
        f"this package is fusedops.triton_kernels, imported as {__name__}: import it by that name, "
        "and keep the checkout's folder off sys.path if another `triton_kernels` was meant"
    )

from .declarations import BACKWARD, PERSISTENT_TMA, PINGPONG, SKINNY, TILED

KERNELS = (TILED, PERSISTENT_TMA, PINGPONG, SKINNY)

__all__ = ["BACKWARD", "KERNELS", "PERSISTENT_TMA", "PINGPONG", "SKINNY", "TILED"]
