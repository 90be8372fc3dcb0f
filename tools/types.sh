#!/usr/bin/env bash
# mypy over the package as it is installed: mypy cannot follow setuptools' mapping of folders.
set -euo pipefail
venv=$(realpath "$1")
root=$PWD
laid_out=$(mktemp -d)
trap 'rm -rf "$laid_out"' EXIT
cp -r fusedops "$laid_out/fusedops"
cp -r registry triton_kernels "$laid_out/fusedops/"
cd "$laid_out"
"$venv/bin/mypy" --config-file "$root/pyproject.toml" -p fusedops
