#!/usr/bin/env bash
# Configures (once) and builds. Usage: utils/build.sh [target ...]
# Safe to call from several shells at a time: they take turns.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
exec 9>build/.lock
flock 9
if [ ! -f build/build.ninja ]; then
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE="${DLC_BUILD_TYPE:-Release}" \
    -DCMAKE_C_COMPILER=clang-22 -DCMAKE_CXX_COMPILER=clang++-22 >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
fi
exec ninja -C build -k 0 "${@:-all}"
