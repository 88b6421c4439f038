#!/usr/bin/env bash
# Installs what building, testing and the demo need, on a fresh Debian 12, as
# root or with sudo. Idempotent: what is there already is left alone.
#
#   utils/install.sh           build, tests and demo
#   utils/install.sh --bench   also the peers that utils/bench compares with
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  # the compiler's parts: LLVM and MLIR as shared libraries, lld as a library
  llvm-22 llvm-22-dev llvm-22-tools libmlir-22-dev mlir-22-tools liblld-22-dev
  # the tools that build and check it
  clang-22 lld-22 clang-format-22 clang-tidy-22 libclang-rt-22-dev cmake pkgconf ninja-build ccache mold
  protobuf-compiler libprotobuf-dev libsqlite3-dev libxgboost-dev nlohmann-json3-dev libgtest-dev zlib1g-dev libzstd-dev libz3-dev
  # ARM: a C library to link against and an emulator to run the result
  qemu-user libc6-dev-arm64-cross libgcc-12-dev-arm64-cross
  # the proofs of docs/proofs and the checker extracted from them
  coq ocaml-nox
  python3 python3-dev python3-venv python3-psutil git)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "install: needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "install: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# The project's own Python, so that no version on the machine matters.
[ -x .venv/bin/python ] || python3 -m venv .venv
install_requirements() { # <file>: only when it changed since the last time
  local stamp=.venv/$(basename "$1").installed
  cmp -s "$1" "$stamp" && return
  .venv/bin/python -m pip install -q --disable-pip-version-check -r "$1"
  cp "$1" "$stamp"
}
install_requirements utils/requirements.txt
# Without ptxas everything still builds and PTX is still made; only the tests
# that need it are reported as unsupported.
if install_requirements utils/requirements-cuda.txt; then
  ptxas=$(echo .venv/lib/python3*/site-packages/nvidia/cu*/bin/ptxas)
  [ ! -x "$ptxas" ] || ln -sf "$PWD/$ptxas" .venv/bin/ptxas
else
  echo "install: no ptxas (optional)" >&2
fi
if [ "${1:-}" = --bench ]; then
  install_requirements utils/bench/requirements.txt
fi
utils/fetch-onnx.sh >/dev/null
