#!/usr/bin/env bash
# The tuning database under kill -9 at 100 random instants with two writers; and
# 200 sampled schedules of each kind of kernel, each against the interpreter; and
# a Ray cluster of two nodes that loses workers and a node (where ray is there).
set -euo pipefail
[ "$1" != --list ] || { printf 'kills\nschedules\nfleet\n'; exit; }
cd "$(dirname "$0")/../.."
export DLC_TEST_FULL=1
case $1 in
kills) build/test/unit/TunerTests --gtest_filter='Store.KilledWritersLoseNothing:Tune.GoesOnAfterKills' ;;
schedules) build/test/unit/TunerKernelsTests --gtest_filter='KernelTask.SampledSchedulesAreRight' ;;
fleet)
  export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python"
  python -c 'import ray' || exit 77
  python -m pytest -q -p no:cacheprovider test/python/test_fleet.py ;;
esac
