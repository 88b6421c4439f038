#!/usr/bin/env bash
# Caches of few bits at a context of 32,768 tokens: bytes, logits and best
# tokens beside the cache as it is.
set -euo pipefail
[ "$1" != --list ] || { printf '8\n4\n'; exit; }
cd "$(dirname "$0")/../.."
PYTHONPATH=build/python PATH=$PWD/build/bin:$PATH .venv/bin/python utils/full/check_kv.py --bits="$1"
