#!/usr/bin/env bash
# Make the virtual environment $1, install what is needed, build what this machine can build.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

say() { printf '\n== %s\n' "$*"; }
has_card() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
has_nvcc() { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

say "virtual environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

if version=$("$venv/bin/python" -c 'import torch; print(torch.__version__)' 2>/dev/null); then
  say "PyTorch $version is there"
elif has_card; then
  say "PyTorch, for the card that nvidia-smi sees"
  pip install 'torch>=2.10'
else
  say "PyTorch 2.13.0 (no NVIDIA card found)"
  pip install torch==2.13.0
fi

say "build tools"
pip install 'setuptools>=77' 'pybind11>=2.13' 'cmake>=3.22' ninja

if ! has_nvcc && { has_card || [ "${FUSEDOPS_CUDA:-}" = ON ]; }; then
  say "nvcc, from NVIDIA's packages"
  pip install 'nvidia-cuda-nvcc>=13' 'nvidia-cuda-crt>=13' 'nvidia-nvvm>=13' \
    'nvidia-cuda-runtime>=13' 'nvidia-cuda-cccl>=13' ||
    echo "nvcc could not be installed: building without the CUDA C++ backend"
fi
if has_nvcc || [ -n "$(find "$venv" -name nvcc -type f -print -quit)" ]; then
  say "CUTLASS headers"
  pip install --no-deps nvidia-cutlass
fi

say "fusedops and its test tools (where there is nvcc, the CUDA kernels take a few minutes)"
PATH="$PWD/$venv/bin:$PATH" pip install --verbose --no-build-isolation --editable '.[dev]' 2>&1 |
  grep -E --line-buffered -- '-- fusedops|fusedops:|\[[0-9]+/[0-9]+\]|[Ee]rror|^ *Successfully'

say "installed; next: make run, make test"
