#!/usr/bin/env bash
# The shipped kernel libraries: built as their users would, every instance
# verified by the library's own profiler. arm-NAME: cross-compiled, samples of
# moderate size called under qemu. cuda-NAME: for CUDA without a GPU (not run on
# hardware): the static gate of check_cuda.py over all instances, those of
# moderate size verified on the emulated driver. Needs ptxas. A unit that was
# cut short goes on where it was (check_library.py).
set -euo pipefail
[ "$1" != --list ] || { printf '%s\n' {,arm-,cuda-}{transformer-small,llama}; exit; }
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PATH:/usr/lib/llvm-22/bin:/usr/local/cuda/bin"
manifest=examples/kernel-library/${1#*-}.json
[ -f "$manifest" ] || manifest=examples/kernel-library/$1.json
check() { exec .venv/bin/python utils/full/check_library.py "$manifest" --out="build/full/library/$1" "${@:2}"; }
case $1 in
cuda-*)
  command -v ptxas >/dev/null || { echo "ptxas is not installed"; exit 77; }
  export DLC_CUDA_DRIVER="$PWD/build/lib/libdlc_emulated_cuda.so"
  check "$1" --target=cuda:sm=90a:emulate=on --static-gate -- --limit=20 --most-work=3e7
  ;;
arm-*)
  command -v qemu-aarch64 >/dev/null || { echo "qemu-aarch64 is not installed"; exit 77; }
  limit=40 work=2e8
  [ "$1" != arm-llama ] || limit=3 work=4e7
  check "$1" --target=arm --run-under=qemu-aarch64 -- --limit=$limit --most-work=$work
  ;;
llama) check "$1" --target=x86 --most-seconds=600 --most-bytes=60e6 -- --limit=40 ;;
*) check "$1" --target=x86 --most-seconds=40 -- ;;
esac
