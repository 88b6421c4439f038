#!/usr/bin/env bash
# Caches at long contexts: of few bits at 32,768 tokens (bytes, logits and best
# tokens beside the cache as it is), one block decoding against 1,048,576 tokens
# of int4, and its prefill of 131,072 tokens within 2 GB.
set -euo pipefail
[ "$1" != --list ] || { printf '8\n4\nmillion\nprefill\n'; exit; }
cd "$(dirname "$0")/../.."
export PYTHONPATH=build/python PATH=$PWD/build/bin:$PATH
case $1 in
million) .venv/bin/python utils/full/check_long.py decode ;;
prefill) .venv/bin/python utils/full/check_long.py prefill ;;
*) .venv/bin/python utils/full/check_kv.py --bits="$1" ;;
esac
