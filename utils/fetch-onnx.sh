#!/usr/bin/env bash
# Puts the C++ source of onnx, which ships inside its wheel, where CMake looks
# for it. Debian's libonnx knows no operator set above 17, so the frontend is
# built from this tree instead; the wheel is pinned by its checksum.
# Prints the folder. Does nothing when the folder is already there.
set -euo pipefail

version=1.23.2
sha256=c03ecf6b835d136108eeaeeafbd0026fc7b3cf98661409fbc6b63d5a29361348
folder=${DLC_ONNX_SOURCE:-${XDG_CACHE_HOME:-$HOME/.cache}/dlc/onnx-$version}

if [ -f "$folder/.complete" ]; then
  echo "$folder"
  exit 0
fi
# Debian's own Python has no pip; the project's environment does.
python=$(dirname "$0")/../.venv/bin/python
[ -x "$python" ] || python=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One fixed wheel whatever Python runs here: the C++ files are the same in all.
"$python" -m pip download -q --no-deps --only-binary=:all: --implementation cp \
  --python-version 311 --platform manylinux_2_28_x86_64 -d "$work" "onnx==$version" >&2
wheel=$(echo "$work"/onnx-"$version"-*.whl)
if ! echo "$sha256  $wheel" | sha256sum --check --status; then
  echo "fetch-onnx: checksum of onnx $version differs from the pinned one: $(sha256sum <"$wheel")" >&2
  exit 1
fi
mkdir -p "$folder"
# Only what the library is built from, and the licence; Python stays out.
"$python" - "$wheel" "$folder" <<'PY'
import sys, zipfile
wheel, folder = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
for name in wheel.namelist():
    source = name.startswith("onnx/") and name.endswith((".cc", ".h", ".proto"))
    if source or ".dist-info/licenses/" in name:
        wheel.extract(name, folder)
PY
touch "$folder/.complete"
echo "$folder"
