#!/usr/bin/env bash
# Schedules of CUDA kernels on the emulator with every check, beside the interpreter: 620 seeded points of the spaces of
# 31 kernels (20 of each), in four parts; and what the machine code of plain tiles is made of.
set -euo pipefail
[ "$1" != --list ] || { printf 'part0\npart1\npart2\npart3\nfma\n'; exit; }
cd "$(dirname "$0")/../.."
if [ "$1" = fma ]; then
  export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH:/usr/local/cuda/bin" PYTHONPATH="$PWD/build/python:${PYTHONPATH:-}"
  command -v ptxas >/dev/null || { echo "ptxas is not installed"; exit 77; }
  exec .venv/bin/python utils/full/check_fma.py
fi
export DLC_TEST_FIRST=$((${1#part} * 5)) DLC_TEST_COUNT=5
build/test/unit/CodegenCUDATests --gtest_filter='CudaKnobs.SampledSchedulesAreRight'
