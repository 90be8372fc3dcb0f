"""The operands as TMA sees them."""

from __future__ import annotations

from fusedops.registry import Problem

from .config import stores_by_tma
from .packet import Matrix


def matrices(problem: Problem) -> dict[str, Matrix]:
    """x, weight and, where TMA can store it, the result."""
    m, n, k = problem.m, problem.n, problem.k
    found = {
        "x": Matrix(problem.dtype, (m, k), _row_stride(problem, m, problem.x_strides[0])),
        "weight": Matrix(problem.dtype, (n, k), _row_stride(problem, n, problem.weight_strides[0])),
    }
    if stores_by_tma(problem):
        found["out"] = Matrix(problem.dtype, (m, n), n)
    return found


def _row_stride(problem: Problem, rows: int, stride: int) -> int:
    """The stride of rows; of a single row, whose own means nothing, one that TMA accepts."""
    if rows > 1:
        return stride
    vector = 16 // problem.dtype.itemsize
    return -(-problem.k // vector) * vector
