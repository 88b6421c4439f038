#!/usr/bin/env bash
# The first of the two commands: installs what is missing, builds dlc, compiles a
# real trained text recogniser and reads a line of text with it (utils/demo.py).
# Usage: utils/demo.sh [text to draw and read]
set -euo pipefail
cd "$(dirname "$0")/.."
utils/install.sh
echo "build   (log: build/build.log)"
mkdir -p build
DLC_PRESET=release utils/build.sh >build/build.log 2>&1 || { tail -n 60 build/build.log >&2; echo "demo: the build failed" >&2; exit 1; }
PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" exec .venv/bin/python utils/demo.py "$@"
