#!/usr/bin/env bash
# Coq's kernel alone reads every compiled proof of docs/proofs again, and the
# checker meets many more graphs and mutants than in the ci tier.
set -euo pipefail
[ "$1" != --list ] || { echo coqchk mutants; exit; }
cd "$(dirname "$0")/../.."
command -v coqchk >/dev/null || { echo "no coqchk: utils/install.sh installs it"; exit 77; }
utils/fusion-check.sh --build
case $1 in
  coqchk)
    out=$(make -s -C docs/proofs BUILD="${DLC_PROOFS_BUILD:-$PWD/build/proofs}" chk 2>&1) || { echo "$out"; exit 1; }
    echo "$out"
    # Its summary: only the axioms of the list, nothing that relies on a switched-off check.
    found=$(grep -oE '^ +Coq\.[A-Za-z_.]+$' <<<"$out" | sed -E 's/.*\.([A-Za-z_]+\.[A-Za-z_]+)$/\1/' | sort)
    diff <(grep -v '^#' docs/proofs/assumptions.txt | sort) <(echo "$found")
    [ "$(grep -c '<none>' <<<"$out")" = 3 ]
    ;;
  mutants) test/proofs/groups.py --seeds=200 --nodes=300 --time=20000 utils/fusion-check.sh ;;
esac
