"""The rules, one idea a file."""

from fusedops.lint.rules import (
    block_size,
    grid,
    jitted,
    loop_exit,
    loop_index,
    mask_shape,
    missing_function,
    program_id,
    store_count,
    store_load,
)
from fusedops.lint.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    jitted.RULE,
    grid.RULE,
    block_size.RULE,
    program_id.RULE,
    loop_exit.RULE,
    loop_index.RULE,
    mask_shape.RULE,
    store_count.RULE,
    store_load.RULE,
    missing_function.RULE,
)

__all__ = ["RULES", "Rule"]
