#!/usr/bin/env bash
# CUDA without a GPU (not run on hardware).
#   NAME                  a case of utils/bench: the static gate for sm_80, sm_89 and sm_90a, and right results on the emulated
#                         driver (check_cuda.py). Needs `utils/install.sh --bench` and ptxas
#   static-NAME           the static gate alone
#   quantized-NAME        a model of check_quantized.py on the emulated driver: products of bytes
#   conformance-default, conformance-static
#                         onnx's backend suite, artifacts on the emulated driver: nothing wrong, no crash; what passes on x86
#                         passes, but for refused-cuda.txt
set -euo pipefail
cd "$(dirname "$0")/../.."
families="llama2 qwen2 qwen3 baichuan2_7b baichuan2_13b chatglm chatglm2"
list() {
  awk '$1 ~ /^(cnn|bert|sub|dag|real)$/ {print $2}' utils/bench/rows.txt
  printf '%s\n' $families | sed 's/$/_decode_fp32/'
  printf '%s\n' llama2 qwen2 chatglm2 | sed 's/$/_decode_bf16/'
  awk '$1 ~ /^(prefill|wide|bf16|gemm|gemv|conv|dwconv|attention)$/ {print "static-" $2}' utils/bench/rows.txt
  printf 'quantized-%s\n' mobilenet_v2_qlinear mobilenet_v2_qdq bert_dynamic bert_qdq
  printf 'conformance-default\nconformance-static\n'
}
[ "$1" != --list ] || { list; exit; }
export PATH="$PWD/build/bin:$PWD/.venv/bin:$PATH:/usr/local/cuda/bin" PYTHONPATH="$PWD/build/python"
export DLC_CUDA_DRIVER="$PWD/build/lib/libdlc_emulated_cuda.so"
command -v ptxas >/dev/null || { echo "ptxas is not installed"; exit 77; }
case $1 in
conformance-*)
  flags=()
  [ "$1" != conformance-static ] || flags=(--static-params)
  cat "utils/full/refused-${1#conformance-}.txt" utils/full/refused-cuda.txt >"build/refused-cuda-$1.txt"
  # The emulator takes the kernels' bitcode: no cubins, which take most of the time.
  CUDA_HOME=/nonexistent DLC_NUM_THREADS=1 .venv/bin/python utils/bench/conformance.py --system dlc --target cuda:sm=80:emulate=on "${flags[@]}" \
    --jobs "$(nproc)" --timeout 900 --strict --near-file utils/full/near.txt --refused "build/refused-cuda-$1.txt" --json "build/$1-cuda.json"
  ;;
*)
  .venv/bin/python -c 'import torch' 2>/dev/null || { echo "torch is not installed: utils/install.sh --bench"; exit 77; }
  case $1 in
  quantized-*) .venv/bin/python utils/full/check_quantized.py "${1#quantized-}" --target cuda:sm=80:emulate=on ;;
  static-*) .venv/bin/python utils/full/check_cuda.py "${1#static-}" ;;
  *) .venv/bin/python utils/full/check_cuda.py "$1" --emulate ;;
  esac
  ;;
esac
