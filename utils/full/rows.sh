#!/usr/bin/env bash
# Every row of the graph dialect with symbolic sizes on the interpreter against
# onnx.reference, 200 random cases an operator.
set -euo pipefail
[ "$1" != --list ] || { echo symbolic; exit; }
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" DLC_FUZZ_CASES=200 DLC_FUZZ_SEED=2026
results=build/fuzz-rows.xml
status=0
.venv/bin/python -m pytest -q -rfE -p no:cacheprovider --junitxml="$results" test/python/test_rows.py || status=$?
.venv/bin/python utils/test-summary.py "$results" || status=1
exit $status
