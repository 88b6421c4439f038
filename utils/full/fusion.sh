#!/usr/bin/env bash
# 550 seeded graphs of 1,000 to 2,000 operators, ten to a unit: compiled with
# fusion and without, strict and reassoc, and judged (utils/fuzz/judge.py). At
# least 99 % must succeed and none may be wrong. The fifth unit of a family has
# symbolic sizes. Two units of `rows` (few operators, large tensors) come on top. What is found out goes to build/fusion.jsonl.
set -euo pipefail
# `grouping` groups 10,000 operators in a second of CPU time.
families=(mix transformer norms conv diamonds tangles reductions integers halves cut shared)
if [ "$1" = --list ]; then
  for family in "${families[@]}"; do printf "$family-%d\n" 1 2 3 4 5; done
  printf 'rows-1\nrows-5\ngrouping\n'
  exit
fi
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" DLC_NUM_THREADS=1
if [ "$1" = grouping ]; then
  for family in mix transformer diamonds; do
    .venv/bin/python utils/fuzz/graphs.py "$family" 1 --ops=10000 --out="build/fusion-grouping/$family"
    build/bin/dlc "build/fusion-grouping/$family/model.onnx" -q -emit=report -o build/fusion-grouping/report.json
    .venv/bin/python - "$family" <<'END'
import json, sys
fusion = json.load(open("build/fusion-grouping/report.json"))["fusion"]
print(f"{sys.argv[1]}: {fusion['calls_before']} calls grouped in {fusion['grouping_seconds']:.2f} s")
sys.exit(fusion["grouping_seconds"] > 1e-4 * fusion["calls_before"])
END
  done
  exit
fi
family=${1%-*} number=${1##*-}
symbolic=()
[ "$number" != 5 ] || symbolic=(--symbolic)
exec .venv/bin/python utils/fuzz/judge.py --families="$family" --seeds="$((10 * number - 9))-$((10 * number))" --ops=1000-2000 --controls \
  --jobs="$(nproc)" --keep=build/fusion-failures --json=build/fusion.jsonl "${symbolic[@]}"
