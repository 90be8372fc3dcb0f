#!/usr/bin/env bash
# Everything worth knowing of a card that the project does not own: FOLDER and FOLDER.tar.gz.
#   card_report.sh PYTHON FOLDER       OPTIONS='--rounds 9 --shapes 1024x1024x1024' shortens it
set -uo pipefail
python=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$folder" "$folder.tar.gz"
mkdir -p "$folder"

step() { # NAME, then a command: its output, and in the summary how it ended
  local name=$1 status=0
  shift
  printf '\n######## %s (%s)\n' "$name" "$(date -u +%H:%M:%S)"
  "$@" 2>&1 | tee "$folder/$name.txt" || status=$?
  echo "$name: $([ $status -eq 0 ] && echo passed || echo "exit status $status")" >>"$folder/summary.txt"
}

step doctor "$python" -m fusedops doctor --json
if command -v nvidia-smi >/dev/null; then step nvidia-smi nvidia-smi -q; fi
step verify "$python" -m fusedops verify --json --examples "${EXAMPLES:-200}"
step bench bash "$here/measure.sh" "$python" "$folder" card
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "table, graphs: left out, PyTorch finds no CUDA card" >>"$folder/summary.txt"
fi
tar -czf "$folder.tar.gz" -C "$(dirname "$folder")" "$(basename "$folder")"
printf '\n'
cat "$folder/summary.txt"
echo "to send back: $folder.tar.gz ($(du -h "$folder.tar.gz" | cut -f1))"
