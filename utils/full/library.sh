#!/usr/bin/env bash
# The shipped kernel libraries: built as their users would, every instance
# verified by the library's own profiler.
set -euo pipefail
[ "$1" != --list ] || { printf 'transformer-small\nllama\n'; exit; }
cd "$(dirname "$0")/../.."
out=build/full/library/$1
rm -rf "$out"
start=$(date +%s)
build/bin/dlc "examples/kernel-library/$1.json" -emit=kernel-library -target=x86 -o "$out"
echo "$1: $(($(date +%s) - start)) s, $(du -cb "$out"/lib/*.a | tail -1 | cut -f1) bytes"
[ "$(stat -c %s "$out"/lib/*.a)" -le 60000000 ]
name=$(basename "$out"/lib/*.so .so)
PYTHONPATH=$out/python .venv/bin/python -m "${name#lib}.profile" --verify-only --limit=40 >"$out/verified.csv"
