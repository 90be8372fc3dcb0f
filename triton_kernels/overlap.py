# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""A kernel's beginning while the one before it in the stream ends (programmatic launch, 9.0 on)."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def wait_for_earlier_kernels():
    """Let the next kernel be launched; go on when all that came before have finished writing."""
    gdc_launch_dependents()
    gdc_wait()


@triton.jit
def send_for(rows, K, AHEAD: tl.constexpr):
    """Send for the first AHEAD elements of 16 bits of each row: into the second-level cache.

    Nothing is read, and every multiprocessor's writes meet in that cache, so this may come before
    the wait for those who write the rows.
    """
    LINE: tl.constexpr = 64
    columns = tl.arange(0, AHEAD // LINE).to(tl.int64) * LINE
    places = rows[:, None] + tl.minimum(columns, K - 1)[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [places],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
