#!/usr/bin/env bash
# Another project uses reft: installed and moved elsewhere, with two translation units; and by add_subdirectory.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$*"; exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "failed: $*"; }; }
configure() { quietly cmake -G Ninja ${REFT_CXX:+-DCMAKE_CXX_COMPILER=$REFT_CXX} "$@"; }
# Relative names and a base folder let ccache know the files of an earlier run again.
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
export CCACHE_BASEDIR=$work

configure -S "$source_dir" -B "$work/build" -DREFT_BUILD_TESTS=OFF -DREFT_BUILD_EXAMPLES=OFF
# What is installed knows no .venv: it is told, as any consumer would.
REFT_TORCH_ROOT=$(sed -nE 's/^-- LibTorch .*: (.*)$/\1/p' "$work/log")
export REFT_TORCH_ROOT
quietly cmake --install "$work/build" --prefix "$work/installed"
mv "$work/installed" "$work/prefix"
(cd "$source_dir/include" && find . -name '*.hpp' | sort) >"$work/expected"
(cd "$work/prefix/include" && find . -name '*.hpp' | sort) | diff "$work/expected" - || fail "the installed headers differ"

# The export names targets, never a folder of the machine it was made on.
exported=$(find "$work/prefix" -name '*.cmake' -path '*cmake/reft/*targets*')
[ -n "$exported" ] || fail "nothing was exported"
! grep -rnE "$source_dir|$work|$REFT_TORCH_ROOT|\.venv|\"/usr|;/usr|\.so" $exported || fail "a folder of this machine is in the export"
grep -q 'reft::torch' $exported || fail "the export does not link reft::torch"

cp -r "$source_dir/tests/consumer" "$work/consumer"
configure -S "$work/consumer" -B "$work/found" -DCMAKE_PREFIX_PATH="$work/prefix" "${launcher[@]}"
quietly cmake --build "$work/found" --target consumer
"$work/found/consumer" | tee "$work/said"
grep -q 'works' "$work/said"

configure -S "$work/consumer" -B "$work/added" -DREFT_SUBDIRECTORY="$source_dir" -DREFT_USE_SENTENCEPIECE=OFF "${launcher[@]}"
! cmake --build "$work/added" --target help | grep -E 'reft_(light_)?tests' || fail "a parent project gets our tests"
quietly cmake --build "$work/added" --target consumer_small
"$work/added/consumer_small"

# A version this is not is refused.
sed -i 's/find_package(reft 0.1/find_package(reft 9.0/' "$work/consumer/CMakeLists.txt"
! cmake -G Ninja -S "$work/consumer" -B "$work/refused" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 || fail "version 9 was found"
grep -q 'requested version "9.0"' "$work/log" || { cat "$work/log"; fail "the refusal does not name the version"; }
