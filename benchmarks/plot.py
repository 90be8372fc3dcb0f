"""Draw the plot of a benchmark from its JSON, on any machine.

python benchmarks/plot.py benchmarks/results/h200_cold_bfloat16.json docs/images/h200_bfloat16.png
"""

import sys
from pathlib import Path

from fusedops.bench.plot import draw
from fusedops.bench.report import Report

if len(sys.argv) != 3:
    sys.exit("usage: python benchmarks/plot.py RESULT.json PLOT.png")
draw(Report.read(Path(sys.argv[1])), Path(sys.argv[2]))
