#!/usr/bin/env bash
# Whole models, one a unit: compiled, run, and compared with onnxruntime and with
# dlc's interpreter. Needs `utils/install.sh --bench`.
#   NAME        a case of utils/bench with fixed shapes (check_model.py)
#   dyn_NAME    a model with symbolic dims, compiled once, run at many sizes (check_dynamic.py)
#   quant_NAME  a model quantised by onnxruntime.quantization (check_quantized.py)
#   contrib_NAME  a model with com.microsoft operators, made by onnxruntime's tools (check_contrib.py)
#   arm_NAME    dyn_NAME cross-compiled, under qemu at small sizes (check_arm.py)
set -euo pipefail
cd "$(dirname "$0")/../.."
families="llama2 qwen2 qwen3 baichuan2_7b baichuan2_13b chatglm chatglm2"
list() {
  awk '$1 ~ /^(cnn|bert|sub|dag|real)$/ {print $2}' utils/bench/rows.txt
  printf '%s\n' resnet50 mobilenet_v2 mobilenet_v3_large bert_base | sed 's/^/dyn_/'
  for family in $families; do
    for phase in prefill decode; do
      printf '%s\n' "${family}_${phase}_fp32" "dyn_${family}_$phase"
      case $family in llama2 | qwen2 | chatglm2) printf '%s\n' "${family}_${phase}_bf16" "${family}_${phase}_fp16" ;; esac
    done
  done
  printf 'dyn_real_%s\n' ppocr4_det ppocr4_rec ppocr_cls magika silero_vad minilm_l6
  printf 'quant_%s\n' mobilenet_v2_qdq mobilenet_v2_qlinear bert_dynamic bert_qdq
  printf 'contrib_%s\n' bert_transformers bert_ort mobilenet_v3_ort llama2_4bit
  printf 'arm_%s\n' resnet50 mobilenet_v2 mobilenet_v3_large bert_base llama2_decode
}
[ "$1" != --list ] || { list; exit; }
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  echo "torch is not installed: utils/install.sh --bench"
  exit 77
fi
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD/build/python"
case $1 in
dyn_*) .venv/bin/python utils/full/check_dynamic.py "$1" ;;
quant_*) .venv/bin/python utils/full/check_quantized.py "${1#quant_}" ;;
contrib_*) .venv/bin/python utils/full/check_contrib.py "${1#contrib_}" ;;
arm_*) command -v qemu-aarch64 >/dev/null || exit 77; .venv/bin/python utils/full/check_arm.py "dyn_${1#arm_}" ;;
*) .venv/bin/python utils/full/check_model.py "$1" ;;
esac
