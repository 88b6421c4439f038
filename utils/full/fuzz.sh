#!/usr/bin/env bash
# Every operator against onnx.reference on 200 random cases, on the interpreter
# and on the host; a unit is one target.
set -euo pipefail
[ "$1" != --list ] || { printf 'interp\nhost\n'; exit; }
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" DLC_FUZZ_CASES=200 DLC_FUZZ_SEED=2026
results=build/fuzz-$1.xml
status=0
.venv/bin/python -m pytest -q -rfE -p no:cacheprovider --junitxml="$results" test/python/test_op_fuzz.py -k "$1 or found_out" || status=$?
.venv/bin/python utils/test-summary.py "$results" || status=1
exit $status
