#!/usr/bin/env bash
# Builds with clang's source coverage, runs the ci tier and reports the line
# coverage of lib/. Usage: utils/coverage.sh [--min=<percent>]
# The report by file is build-coverage/coverage.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
min=0
case ${1:-} in
  --min=*) min=${1#--min=} ;;
  "") ;;
  *) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
bin=/usr/lib/llvm-22/bin
build=$PWD/build-coverage
rm -rf "$build/profiles"
mkdir -p "$build/profiles"
# %m merges the runs of one binary into one file, %8 keeps eight of them apart.
export LLVM_PROFILE_FILE="$build/profiles/%8m.profraw"
tests=0
DLC_PRESET=coverage utils/test.sh --no-install || tests=1
"$bin/llvm-profdata" merge -sparse "$build"/profiles/*.profraw -o "$build/coverage.profdata"
mapfile -t objects < <(find "$build/bin" "$build/test/unit" "$build/lib" "$build/python" -type f \( -name '*.so*' -o -perm -u+x \) ! -name '*.py' 2>/dev/null)
arguments=()
for object in "${objects[@]}"; do
  # Only what was compiled here: some helpers are scripts.
  head -c4 "$object" | grep -q ELF && arguments+=(-object "$object")
done
"$bin/llvm-cov" report -instr-profile="$build/coverage.profdata" "${arguments[@]}" -sources "$PWD/lib" >"$build/coverage.txt"
percent=$("$bin/llvm-cov" export -summary-only -instr-profile="$build/coverage.profdata" "${arguments[@]}" -sources "$PWD/lib" |
  python3 -c 'import json, sys; print("%.1f" % json.load(sys.stdin)["data"][0]["totals"]["lines"]["percent"])')
echo "line coverage of lib/: $percent % (build-coverage/coverage.txt)"
[ $tests = 0 ] || { echo "coverage: tests failed" >&2; exit 1; }
python3 -c "import sys; sys.exit(0 if $percent >= $min else 'coverage is below $min %')"
