#!/usr/bin/env bash
# Runs the tests. The last line is `N passed, N failed, N skipped` over all
# runners; the exit status is 1 when anything failed.
#
#   utils/test.sh                      the ci tier: install, build, lit, GoogleTest, pytest
#   utils/test.sh --full [--slice=k/n] the full tier (utils/full), after the ci tier's build;
#                                      units that passed at this commit are not run again
#   --no-install                       trust what is on the machine
#
# DLC_PRESET=asan runs the tier on another preset of CMakePresets.json.
set -uo pipefail
cd "$(dirname "$0")/.."

full=no slice=1/1 install=yes
for argument in "$@"; do
  case $argument in
    --full) full=yes ;;
    --slice=*) slice=${argument#--slice=} ;;
    --no-install) install=no ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

preset=${DLC_PRESET:-release}
build=build
[ "$preset" = release ] || build=build-$preset
export DLC_BUILD=$build

if [ "$preset" = asan ]; then
  # LLVM's shared libraries are not instrumented: containers cross their border, so
  # do its allocators, which poison memory in inlined code that the library then
  # takes without a word; and MLIR's uniqued storage lives until the process ends.
  export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_container_overflow=0:allow_user_poisoning=0:detect_leaks=0}
  export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1:suppressions=$PWD/cmake/ubsan-suppressions.txt}
fi

give_up() { # <what failed>: a step before the tests counts as one failed test
  echo "test: $1 failed" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}
step() { printf '=== %s (%(%H:%M:%S)T)\n' "$1" -1; }

if [ $install = yes ]; then
  step install
  utils/install.sh || give_up utils/install.sh
fi
step build
mkdir -p "$build"
log=$build/build.log
utils/build.sh >"$log" 2>&1 || { grep -E -A12 'error:|FAILED' "$log" | head -200 >&2; give_up "build ($log)"; }
tail -n 1 "$log"

if [ $full = yes ]; then
  exec .venv/bin/python utils/run-full.py --slice="$slice"
fi

results=$build/results
rm -rf "$results"
mkdir -p "$results"
jobs=$(nproc)
step lit
utils/lit.sh -j"$jobs" --timeout=900 -o "$results/lit.json" || true
step "unit tests"
ctest --test-dir "$build" -j"$jobs" --output-on-failure --output-junit "$PWD/$results/unit.xml" | grep -v ' Passed ' || true
step pytest
preload=
if [ "$preset" = asan ]; then # Python itself is not instrumented
  preload=$(clang-22 -print-file-name=libclang_rt.asan-x86_64.so)
  [ -f "$preload" ] || preload=$(clang-22 -print-file-name=libclang_rt.asan.so)
fi
LD_PRELOAD=$preload PATH="$PWD/$build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/$build/python" \
  .venv/bin/python -m pytest -q -rfE -p no:cacheprovider --timeout=900 --junitxml="$results/python.xml" test/python || true
exec .venv/bin/python utils/test-summary.py "$results/lit.json" "$results/unit.xml" "$results/python.xml"
