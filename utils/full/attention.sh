#!/usr/bin/env bash
# Attention nests against the interpreter: 2,000 seeded combinations of sizes,
# masks, layouts, element types and schedules, in four parts.
set -euo pipefail
[ "$1" != --list ] || { printf 'part0\npart1\npart2\npart3\n'; exit; }
cd "$(dirname "$0")/../.."
export DLC_TEST_FIRST=$((${1#part} * 500)) DLC_TEST_COUNT=500
build/test/unit/CpuNestsTests --gtest_filter='AttentionTest.SeededCombinations'
