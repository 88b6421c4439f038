#!/usr/bin/env bash
# The 2033 tests of onnx's backend suite: no wrong answer, no crash, no timeout.
# Rounding that is known and explained is listed in near.txt.
set -euo pipefail
[ "$1" != --list ] || { echo suite; exit; }
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" DLC_NUM_THREADS=1
.venv/bin/python utils/bench/conformance.py --system dlc --static-params --jobs "$(nproc)" --strict \
  --near-file utils/full/near.txt --min-pass 50 --json build/conformance.json
