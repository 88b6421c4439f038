#!/usr/bin/env bash
# Configures (once) and builds. Usage: utils/build.sh [target ...]
# DLC_PRESET picks another preset of CMakePresets.json than release.
# Safe to call from several shells at a time: they take turns.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${DLC_PRESET:-release}
build=build
[ "$preset" = release ] || build=build-$preset
mkdir -p "$build"
exec 9>"$build/.lock"
flock 9
if [ ! -f "$build/build.ninja" ]; then
  cmake --preset "$preset" >"$build/configure.log" 2>&1 || { cat "$build/configure.log" >&2; exit 1; }
fi
exec ninja -C "$build" -k 0 "${@:-all}"
