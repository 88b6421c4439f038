#!/usr/bin/env bash
# Whole models, one a unit: compiled, run, and compared with onnxruntime and with
# dlc's interpreter (check_model.py). Needs `utils/install.sh --bench`.
set -euo pipefail
cases=(resnet50 mobilenet_v2 mobilenet_v3_large bert_base_s128 llama2_prefill_fp32 llama2_decode_fp32
  real_ppocr4_rec real_ppocr_cls real_ppocr4_det real_magika)
[ "$1" != --list ] || { printf '%s\n' "${cases[@]}"; exit; }
cd "$(dirname "$0")/../.."
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  echo "torch is not installed: utils/install.sh --bench"
  exit 77
fi
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python"
.venv/bin/python utils/full/check_model.py "$1"
