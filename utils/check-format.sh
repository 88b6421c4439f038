#!/usr/bin/env bash
# Says which C and C++ files differ from .clang-format. Usage: utils/check-format.sh [--fix] [file ...]
set -euo pipefail
fix=no
if [ "${1:-}" = --fix ]; then
  fix=yes
  shift
fi
if [ $# = 0 ]; then
  cd "$(dirname "$0")/.."
  # dlpack.h is DLPack's own file, kept as it is published.
  mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.c' '*.cpp' ':!include/dlc/dlpack.h')
else
  files=("$@")
fi
if [ $fix = yes ]; then
  exec clang-format-22 -i "${files[@]}"
fi
bad=0
for file in "${files[@]}"; do
  if ! clang-format-22 "$file" | cmp -s - "$file"; then
    echo "$file: not formatted (utils/check-format.sh --fix $file)"
    bad=1
  fi
done
[ $bad = 0 ] && echo "${#files[@]} files are formatted"
exit $bad
