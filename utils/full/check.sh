#!/usr/bin/env bash
# Random programs, fused by hand, 2,500 a unit: Check accepts what is right, and
# what it accepts of planted lies evaluates equal.
set -euo pipefail
[ "$1" != --list ] || { printf 'part1\npart2\npart3\npart4\n'; exit; }
cd "$(dirname "$0")/../.."
DLC_RANDOM_DAGS=2500 DLC_RANDOM_SEED=$((${1#part} * 1000000)) build/test/unit/CheckRandomTests
