#!/usr/bin/env bash
# Loop nests (windows, rows, groups), Winograd's filtering and products of matrix tiles
# (where the machine has them) against the interpreter or plain loops: 600 seeded
# sizes and schedules of each, in three parts.
set -euo pipefail
[ "$1" != --list ] || { printf 'part0\npart1\npart2\n'; exit; }
cd "$(dirname "$0")/../.."
export DLC_TEST_FIRST=$((${1#part} * 200)) DLC_TEST_COUNT=200
build/test/unit/CpuNestsTests --gtest_filter='ScheduleTest.*:WinogradTest.*'
build/test/unit/CodegenTests --gtest_filter='MatrixContraction.SeededSchedules'
