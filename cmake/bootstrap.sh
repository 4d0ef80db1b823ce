#!/usr/bin/env bash
# Finds or installs what a build needs: compiler, CMake, Ninja, ccache, the C++ packages and LibTorch.
# Quick and quiet when nothing is missing. LibTorch is looked for as cmake/ReftTorch.cmake says, and if there is none,
# torch is installed into the project's own .venv.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv
torch_version=2.13.0
say() { printf 'bootstrap: %s\n' "$*" >&2; }
stop() { say "$@"; exit 1; }

missing=()
have() { command -v "$1" >/dev/null; }
need_command() { have "$1" || missing+=("$2"); }
need_header() {
  local folder folders=(/usr/include /usr/local/include /usr/include/*-linux-gnu)
  local prefixes=${CMAKE_PREFIX_PATH:-}
  for folder in ${prefixes//:/ }; do folders+=("$folder/include" "$folder"/include/*-linux-gnu); done
  for folder in "${folders[@]}"; do [ -e "$folder/$1" ] && return; done
  missing+=("$2")
}
torch_found() { torch_problem=$(cmake -P "$project/cmake/ReftTorch.cmake" 2>&1); }
torch_named() { [ -n "${REFT_TORCH_ROOT:-}${Torch_DIR:-}" ]; }
problem() { sed -n 's/^  //p' <<<"$torch_problem" | tr -s '\n ' ' '; }
pip_install() { "$venv/bin/python" -m pip --disable-pip-version-check install -q "$@"; }
can_install() { have apt-get && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }; }
can_make_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

install_packages() {
  local as_root=()
  have apt-get || stop "please install with your package manager what Debian calls: $*"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || stop "some packages are missing; please run:  sudo apt-get install -y $*"
    as_root=(sudo)
  fi
  say "installing $*"
  [ -n "${updated:-}" ] || "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
  updated=yes
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    stop "apt-get could not install: $*"
}

[ -n "${CXX:-}" ] || need_command g++ g++
need_command cmake cmake
need_command ninja ninja-build
need_command ccache ccache
need_header fmt/format.h libfmt-dev
need_header nlohmann/json.hpp nlohmann-json3-dev
need_header catch2 catch2
need_header CLI/CLI.hpp libcli11-dev
need_header pcre2.h libpcre2-dev
need_header utf8proc.h libutf8proc-dev
# All packages are known before the first is installed: who may not install them has one command to run.
if have cmake && torch_found; then have_torch=yes; else have_torch=; fi
[ -n "$have_torch" ] || torch_named || can_make_venv || missing+=(python3 python3-venv)
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"

# Optional: where packages cannot be installed, the build leaves out what needs it.
missing=()
need_header sentencepiece_processor.h libsentencepiece-dev
if [ ${#missing[@]} -gt 0 ] && can_install; then
  (install_packages "${missing[@]}") || say "no SentencePiece: tokenizer.model files will not be read"
fi

[ -n "${CXX:-}" ] || [ "$(g++ -dumpversion | cut -d. -f1)" -ge 12 ] ||
  stop "g++ is version $(g++ -dumpversion), GCC 12 or newer is needed; if another one is installed, name it: CXX=g++-12"
cmake_version=$(cmake --version | sed -n '1s/.* //p')
printf '%s\n' 3.25 "$cmake_version" | sort -CV || stop "cmake is version $cmake_version, 3.25 or newer is needed"

if [ -z "$have_torch" ] && ! torch_found; then
  ! torch_named || stop "$(problem)"
  can_make_venv || stop "$(command -v python3) cannot make virtual environments; install its venv and ensurepip modules"
  say "installing LibTorch (torch $torch_version) into .venv; this can take some minutes"
  # An interrupted run, or a Python that has moved on, leaves an environment without pip.
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$venv"
  pip_install "torch==$torch_version" || stop "pip could not install torch $torch_version for $("$venv/bin/python" --version)"
  torch_found || stop "$(problem)"
fi

# The CUDA build comes without two parts of the toolkit's headers. Only code that names CUDA's own types needs them.
for headers in "$venv"/lib/python*/site-packages/nvidia/cu[0-9]*/include; do
  if [ -e "$headers/cuda_runtime_api.h" ] && ! [ -e "$headers/crt/host_defines.h" -a -d "$headers/cccl" ]; then
    pip_install "cuda-toolkit[crt,cccl]" || say "no CUDA headers: the build will leave out what needs them"
  fi
done
