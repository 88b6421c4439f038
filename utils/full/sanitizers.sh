#!/usr/bin/env bash
# The ci tier under the address and undefined-behaviour sanitizers.
set -euo pipefail
[ "$1" != --list ] || { echo asan-ubsan; exit; }
cd "$(dirname "$0")/../.."
DLC_PRESET=asan utils/test.sh --no-install
