#!/usr/bin/env bash
# Attention nests against the interpreter: 2,000 seeded combinations of sizes,
# masks, layouts, element types and schedules, in four parts, and 500 of bf16 by
# matrix tiles, where the machine has them.
set -euo pipefail
[ "$1" != --list ] || { printf 'part0\npart1\npart2\npart3\ntiles\n'; exit; }
cd "$(dirname "$0")/../.."
suite=AttentionTest part=${1#part}
[ "$1" != tiles ] || suite=MatrixAttention part=0
export DLC_TEST_FIRST=$((part * 500)) DLC_TEST_COUNT=500
build/test/unit/CpuNestsTests --gtest_filter="$suite.SeededCombinations"
