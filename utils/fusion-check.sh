#!/usr/bin/env bash
# The checker that is extracted from docs/proofs; builds proofs and checker first where they are not.
#
#   utils/fusion-check.sh FILE ...   checks dumps of fused graphs (docs/proofs/README.md): ACCEPT or REFUSE
#   utils/fusion-check.sh --build    only builds
#
# DLC_PROOFS_BUILD is the folder of what is made (build/proofs).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath -m "${DLC_PROOFS_BUILD:-$root/build/proofs}")
mkdir -p "$build"
# Tests run at the same time: one of them builds.
exec 9>"$build/.lock"
flock 9
make -s -C "$root/docs/proofs" BUILD="$build" >"$build/make.log" 2>&1 || { cat "$build/make.log" >&2; exit 3; }
exec 9>&-
[ "${1:-}" != --build ] || exit 0
exec "$build/fusion-check" "$@"
