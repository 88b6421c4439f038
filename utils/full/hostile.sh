#!/usr/bin/env bash
# Malformed models under the sanitizers: the named ones and 5,000 mutations of
# good ones (seeded), in units of 1,250. DLC_PRESET picks another build than asan.
set -euo pipefail
[ "$1" != --list ] || { printf 'named\nflips-1\nflips-2\nflips-3\nflips-4\n'; exit; }
cd "$(dirname "$0")/../.."
preset=${DLC_PRESET:-asan}
build=build
[ "$preset" = release ] || build=build-$preset
DLC_PRESET=$preset utils/build.sh dlc >/dev/null
# Leaks are not looked for: the process ends after each model, arenas and all.
# The rest as in utils/test.sh.
export ASAN_OPTIONS=detect_container_overflow=0:allow_user_poisoning=0:detect_leaks=0:abort_on_error=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:suppressions=$PWD/cmake/ubsan-suppressions.txt
inputs=test/Frontend/ONNX/Inputs
case $1 in
named) .venv/bin/python $inputs/hostile.py "$build/hostile" "$build/bin/dlc" ;;
flips-*)
  part=${1#flips-}
  .venv/bin/python $inputs/flips.py "$build/hostile-$1" "$build/bin/dlc" --seed 2026 \
    --first $(((part - 1) * 1250)) --count 1250 --jobs "$(nproc)"
  ;;
esac
