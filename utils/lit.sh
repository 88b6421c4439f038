#!/usr/bin/env bash
# Runs lit over the given test files or folders of a finished build (default: all).
# Usage: utils/lit.sh [lit options] [test/Dialect/Graph ...]; DLC_BUILD names the build folder.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${DLC_BUILD:-build}
arguments=() paths=()
for argument in "$@"; do
  case $argument in
    test | test/*) paths+=("$build/$argument") ;;
    *) arguments+=("$argument") ;;
  esac
done
exec "${LLVM_BIN:-/usr/lib/llvm-22/bin}/lit" "${arguments[@]}" "${paths[@]:-$build/test}"
