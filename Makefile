# Each target stands alone: `run` and `test` install what they need first.
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SOURCES := $(shell find csrc cmake -type f 2>/dev/null) CMakeLists.txt setup.py pyproject.toml tools/install.sh

.PHONY: help install run test style quality wheel bench card-report h200-report tables clean

help:
	@echo "make run      run the operator here: which kernel, why, how exact, how fast"
	@echo "make test     run the whole test suite, and say what was skipped and why"
	@echo "make install  make .venv and build what this machine can build"
	@echo "make bench    time every kernel that can run here"
	@echo "make card-report   doctor, verify, bench and a table of this card, to send back"
	@echo "make tables   the documentation's tables and plot, from benchmarks/results"
	@echo "make style    format;  make quality  check format, lint, types, and our kernels rules"
	@echo "make wheel    build a wheel into dist/"

install: $(STAMP)

$(STAMP): $(SOURCES)
	@bash tools/install.sh $(VENV)
	@touch $@

run: install
	@$(PYTHON) -m fusedops run

test: install
	@$(PYTHON) -m pytest

bench: install
	@$(PYTHON) -m fusedops bench

# On another card than those of docs/performance.md: an hour or two.
card-report: install
	@bash benchmarks/card_report.sh $(PYTHON) card-report

h200-report: install
	@TABLE=registry/tables/nvidia_h200.json bash benchmarks/measure.sh $(PYTHON) benchmarks/results h200
	@$(MAKE) --no-print-directory tables

tables: install
	@$(PYTHON) benchmarks/plot.py benchmarks/results/h200_cold_bfloat16.json docs/images/h200_bfloat16.png
	@$(PYTHON) benchmarks/tables.py

style: install
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/clang-format -i $$(find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

quality: install
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/clang-format --dry-run --Werror $$(find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
	@bash tools/types.sh $(VENV)
	$(PYTHON) -m fusedops lint triton_kernels benchmarks examples/exported

wheel: install
	@rm -rf dist
	$(PYTHON) -m pip wheel --no-build-isolation --no-deps --wheel-dir dist .

clean:
	rm -rf build dist $(VENV) fusedops/lib fusedops/_catalogue*.so
