#!/usr/bin/env bash
# Models that dlc was not written with, beside onnxruntime (check_zoo.py): trained
# ones from PyPI packages, compiled with their symbolic dims (wheels) and for fixed
# sizes (static); small `transformers` of many architectures, if that is installed
# (utils/bench/zoo.py says how; ZOO_PACKAGES is its folder).
set -euo pipefail
[ "$1" != --list ] || { printf 'wheels\nstatic\ntransformers\n'; exit; }
cd "$(dirname "$0")/../.."
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python" DLC_NUM_THREADS=1
folder=build/zoo/$1 flags=()
case $1 in
wheels | static)
  folder=build/zoo/wheels
  [ -d "$folder" ] || { .venv/bin/python utils/bench/zoo.py wheels --out "$folder.part" && mv "$folder.part" "$folder"; }
  [ "$1" = wheels ] || flags=(--static) ;;
*)
  packages=(${ZOO_PACKAGES:+--packages="$ZOO_PACKAGES"})
  if ! PYTHONPATH=${ZOO_PACKAGES:-} .venv/bin/python -c 'import torch, transformers' 2>/dev/null; then
    echo "torch or transformers is not installed: utils/bench/zoo.py"
    exit 77
  fi
  HF_HUB_OFFLINE=1 .venv/bin/python utils/bench/zoo.py transformers --out "$folder" "${packages[@]}" ;;
esac
.venv/bin/python utils/full/check_zoo.py "$folder" "${flags[@]}"
