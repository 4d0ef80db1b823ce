#!/usr/bin/env bash
# The README's C++ compiles as it stands.
set -euo pipefail
flags=${REFT_BUILD_DIR:-}/tests/compile-flags.txt
[ -e "$flags" ] || { echo "skip: REFT_BUILD_DIR names no configured build"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
awk '/^```cpp$/ { inside = 1; name = "block" ++count ".cpp"; next } /^```$/ { inside = 0 } inside { print > name }' "$REFT_SOURCE_DIR/README.md"
[ -e block1.cpp ] || { echo "the README shows no C++"; exit 1; }
launcher=$(command -v ccache || true)
for block in block*.cpp; do
  $launcher "${REFT_CXX:-c++}" @"$flags" -O0 -c "$block" -o "$block.o" || { echo "does not compile: $block"; exit 1; }
done
