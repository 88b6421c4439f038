#!/usr/bin/env bash
# Loop nests (windows, rows, groups) and Winograd's filtering against the interpreter:
# 600 seeded sizes and schedules of each, in three parts.
set -euo pipefail
[ "$1" != --list ] || { printf 'part0\npart1\npart2\n'; exit; }
cd "$(dirname "$0")/../.."
export DLC_TEST_FIRST=$((${1#part} * 200)) DLC_TEST_COUNT=200
build/test/unit/CpuNestsTests --gtest_filter='ScheduleTest.*:WinogradTest.*'
