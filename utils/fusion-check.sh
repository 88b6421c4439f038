#!/usr/bin/env bash
# fusion-check.sh FILE ...: the extracted checker of docs/proofs on dumps of fused graphs; builds it first where it is not.
# DLC_PROOFS_BUILD is the folder of the proofs (build/proofs).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath -m "${DLC_PROOFS_BUILD:-$root/build/proofs}")
mkdir -p "$build"
# Tests run at the same time: one of them builds.
exec 9>"$build/.lock"
flock 9
make -s -C "$root/docs/proofs" BUILD="$build" "$build/fusion-check" >"$build/make.log" 2>&1 || { cat "$build/make.log" >&2; exit 3; }
exec 9>&-
exec "$build/fusion-check" "$@"
