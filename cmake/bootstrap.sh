#!/usr/bin/env bash
# Finds or installs what a build needs: compiler, CMake, Ninja, ccache, the C++ packages and LibTorch.
# Quick and quiet when nothing is missing. LibTorch comes from REFT_TORCH_ROOT, Torch_DIR or CMAKE_PREFIX_PATH if one of
# them is set, else from an importable Python torch 2.11 or newer, else into the project's own .venv.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torch_version=2.13.0
say() { printf 'bootstrap: %s\n' "$*" >&2; }

missing=()
need_command() { command -v "$1" >/dev/null || missing+=("$2"); }
need_file() {
  local file
  for file in /usr/include/$1 /usr/local/include/$1 /usr/include/*-linux-gnu/$1; do [ -e "$file" ] && return; done
  [ -n "${CMAKE_PREFIX_PATH:-}" ] && for file in ${CMAKE_PREFIX_PATH//:/ }; do [ -e "$file/include/$1" ] && return; done
  missing+=("$2")
}
need_command g++ g++
need_command cmake cmake
need_command ninja ninja-build
need_command ccache ccache
need_command python3 python3
need_file fmt/format.h libfmt-dev
need_file nlohmann/json.hpp nlohmann-json3-dev
need_file catch2 catch2
need_file CLI/CLI.hpp libcli11-dev
need_file pcre2.h libpcre2-dev
need_file utf8proc.h libutf8proc-dev

install_packages() {
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      sudo=(sudo)
    else
      say "these packages are missing and may not be installed from here; please run:"
      say "  sudo apt-get install -y $*"
      exit 1
    fi
  fi
  command -v apt-get >/dev/null || { say "please install with your package manager: $*"; exit 1; }
  say "installing $*"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"

# Prints the version of the torch a Python sees without importing it, which would take seconds.
torch_of() {
  "$1" -c 'import importlib.metadata as m, importlib.util as u, sys
v = m.version("torch") if u.find_spec("torch") else ""
sys.exit(0 if v and tuple(int(x) for x in v.split("+")[0].split(".")[:2]) >= (2, 11) else 1)' 2>/dev/null
}

if [ -n "${REFT_TORCH_ROOT:-}${Torch_DIR:-}" ] || [[ ":${CMAKE_PREFIX_PATH:-}" == *torch* ]]; then
  :
elif torch_of python3; then
  :
elif [ -x "$project/.venv/bin/python" ] && torch_of "$project/.venv/bin/python"; then
  :
else
  python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
  say "installing LibTorch (torch $torch_version) into .venv; this can take some minutes"
  [ -x "$project/.venv/bin/python" ] || python3 -m venv "$project/.venv"
  "$project/.venv/bin/python" -m pip --disable-pip-version-check install -q "torch==$torch_version"
fi
