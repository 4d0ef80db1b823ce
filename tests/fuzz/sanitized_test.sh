#!/usr/bin/env bash
# The readers of checkpoint files, their tests and 10,000 mutated files under the address and undefined-behaviour sanitizers.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$source_dir"
tests=(tests/fuzz/torch_zip_fuzz_test.cpp tests/io/{gguf,pickle,safetensors,torch_zip,zip}_test.cpp)
objects=()
for file in tests/support/main.cpp "${tests[@]}"; do
  objects+=("$work/$(basename "$file").o")
  "${REFT_CXX:-g++}" -std=c++20 -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-maybe-uninitialized -DFMT_HEADER_ONLY \
    "-DREFT_SOURCE_DIR=\"$source_dir\"" -Iinclude -Itests -c "$file" -o "${objects[-1]}"
done
"${REFT_CXX:-g++}" -fsanitize=address,undefined "${objects[@]}" -o "$work/sanitized"
"$work/sanitized" | tail -n 3
