"""Which kernel runs a call, and why: a leaf that never sees a tensor."""

from .backward import BackwardProblem, backward_problem
from .estimate import clustered_time, fma_strips_time, streamed_time, strips_time, tiled_time
from .kernel import Accumulation, Kernel, Launch
from .problem import CARDS, FEW_ROWS, H200, RTX_4090, Card, Problem, dtype_name
from .select import (
    AUTO,
    BACKENDS,
    Candidate,
    Choice,
    Explanation,
    NoKernelError,
    Request,
    UnknownNameError,
    check_request,
    explain,
    reasons_against,
    select,
)
from .space import Parameters, Space
from .table import Measurement, Prediction, Table, table_for

__all__ = [
    "AUTO",
    "BACKENDS",
    "CARDS",
    "FEW_ROWS",
    "H200",
    "RTX_4090",
    "Accumulation",
    "BackwardProblem",
    "Candidate",
    "Card",
    "Choice",
    "Explanation",
    "Kernel",
    "Launch",
    "Measurement",
    "NoKernelError",
    "Parameters",
    "Prediction",
    "Problem",
    "Request",
    "Space",
    "Table",
    "UnknownNameError",
    "backward_problem",
    "check_request",
    "clustered_time",
    "dtype_name",
    "explain",
    "fma_strips_time",
    "reasons_against",
    "select",
    "streamed_time",
    "strips_time",
    "table_for",
    "tiled_time",
]
