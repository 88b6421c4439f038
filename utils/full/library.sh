#!/usr/bin/env bash
# The shipped kernel libraries: built as their users would, every instance
# verified by the library's own profiler. cuda-NAME: for CUDA without a GPU (not
# run on hardware): the static gate of check_cuda.py over all instances, those
# of moderate size verified on the emulated driver. Needs ptxas.
set -euo pipefail
[ "$1" != --list ] || { printf 'transformer-small\nllama\ncuda-transformer-small\ncuda-llama\n'; exit; }
cd "$(dirname "$0")/../.."
out=build/full/library/$1 manifest=examples/kernel-library/${1#cuda-}.json
rm -rf "$out"
export PATH="$PATH:/usr/local/cuda/bin"
case $1 in
cuda-*)
  command -v ptxas >/dev/null || { echo "ptxas is not installed"; exit 77; }
  target=cuda:sm=90a:emulate=on check=(--limit=20 --most-work=3e7)
  export DLC_CUDA_DRIVER="$PWD/build/lib/libdlc_emulated_cuda.so"
  ;;
*) target=x86 check=(--limit=40) ;;
esac
start=$(date +%s)
build/bin/dlc "$manifest" -emit=kernel-library "-target=$target" -o "$out"
echo "$1: $(($(date +%s) - start)) s, $(du -cb "$out"/lib/*.a | tail -1 | cut -f1) bytes"
name=$(basename "$out"/lib/*.so .so)
name=${name#lib}
case $1 in
cuda-*) .venv/bin/python utils/full/check_cuda.py "$out/share/dlck/$name.json" ;;
*) [ "$(stat -c %s "$out"/lib/*.a)" -le 60000000 ] ;;
esac
PYTHONPATH=$out/python .venv/bin/python -m "$name.profile" --verify-only "${check[@]}" >"$out/verified.csv"
