#!/usr/bin/env bash
# Every measurement of docs/performance.md on this machine: FOLDER/PREFIX_*.json, and on a card the
# registry's table of it: TABLE, or else FOLDER/PREFIX_table.json.
#   measure.sh PYTHON FOLDER PREFIX [STEP ...]      OPTIONS='--rounds 9' reaches every benchmark
# On a card compile-max and quack search at every shape, 10 to 30 s each: PEERS=mm,eager,compile,seed
# leaves them out of the 16-bit steps. A figure is in its file as soon as its shape is done.
set -uo pipefail
python=$1 folder=$2 prefix=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
table=${TABLE:-$folder/${prefix}_table.json}
peers=${PEERS:-mm,eager,compile,compile-max,quack,seed}
failed=0

bench() { # NAME, then options
  # shellcheck disable=SC2086
  "$python" -m fusedops bench --json "$folder/${prefix}_$1.json" "${@:2}" ${OPTIONS:-}
}

configurations() { # NAME, then options: the table's rows
  local shapes
  mapfile -t shapes <"$here/table_shapes.txt"
  bench "$1" --configs --rounds 9 --peers mm --table "$table" --shapes "${shapes[@]}" "${@:2}"
}

step() {
  case $1 in
    cold_bfloat16 | cold_float16) bench "$1" --dtype "${1#cold_}" --peers $peers ;;
    cold_float32) bench "$1" --dtype float32 --peers mm,eager,compile ;;
    cold_float32_tf32) bench "$1" --dtype float32 --allow-tf32 --peers mm,eager,compile ;;
    cold_float16_accumulation)
      bench "$1" --dtype float16 --allow-fp16-accumulation --peers mm,eager,compile ;;
    graph_bfloat16 | graph_float16) bench "$1" --graph --dtype "${1#graph_}" --peers mm,eager,quack ;;
    table_bfloat16 | table_float16 | table_float32) configurations "$1" --dtype "${1#table_}" ;;
    table_float32_tf32) configurations "$1" --dtype float32 --allow-tf32 ;;
    table_float16_accumulation)
      configurations "$1" --dtype float16 --allow-fp16-accumulation ;;
    kernelbench)
      "$python" "$here/../examples/kernelbench_level2_70.py" --json "$folder/${prefix}_$1.json" ;;
    # torch.reference is left out: its temporaries make the next call fault its pages in
    *) bench "$1" --dtype "$1" --device cpu --peers mm,eager,compile --kernels cpu.blocked ;;
  esac
}

if [ $# -eq 0 ]; then
  if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    # The tables first: where TABLE is the registry's, what follows runs on their choices.
    set -- table_bfloat16 table_float16 table_float16_accumulation table_float32 table_float32_tf32 \
      cold_bfloat16 cold_float16 cold_float32 cold_float32_tf32 cold_float16_accumulation \
      graph_bfloat16 graph_float16 kernelbench
  else
    set -- float32 bfloat16 float16 float64 kernelbench
  fi
fi
for name; do
  printf '\n== %s (%s)\n' "$name" "$(date -u +%H:%M:%S)"
  step "$name" || { echo "$name: exit status $?"; failed=1; }
done
exit $failed
