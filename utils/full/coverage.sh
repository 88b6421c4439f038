#!/usr/bin/env bash
# Line coverage of lib/ by the ci tier: at least 80 %.
set -euo pipefail
[ "$1" != --list ] || { echo lines; exit; }
cd "$(dirname "$0")/../.."
utils/coverage.sh --min=80
