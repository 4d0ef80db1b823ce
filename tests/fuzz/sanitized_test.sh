#!/usr/bin/env bash
# The readers of checkpoint files and chat templates, their tests, 10,000 mutated files and 4,000 mutated templates under the
# address and undefined-behaviour sanitizers.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$source_dir"
tests=(tests/fuzz/{chat_template,torch_zip}_fuzz_test.cpp tests/io/{safetensors,torch_zip,gguf,pickle,zip}_test.cpp)

# Compiling is what takes long: only what runs long is optimized, and Catch2 itself is not what is tested.
compile() {
  local file=$1 flags=(-O0 -fsanitize=address,undefined -fno-sanitize-recover=all)
  case $file in
    tests/support/main.cpp) flags=(-O0) ;;
    *torch_zip_fuzz*) flags+=(-O1 -Wno-maybe-uninitialized) ;;
  esac
  "${launcher[@]}" "${REFT_CXX:-g++}" -std=c++20 "${flags[@]}" -DFMT_HEADER_ONLY "-DREFT_SOURCE_DIR=\"$PWD\"" -Iinclude -Itests \
    -c "$file" -o "$work/$(basename "$file").o"
}
launcher=()
command -v ccache >/dev/null && launcher=(ccache)
export -f compile
export work
printf '%s\n' tests/support/main.cpp "${tests[@]}" | xargs -P "$(nproc)" -I{} bash -euc "$(declare -p launcher); compile {}"
"${REFT_CXX:-g++}" -fsanitize=address,undefined "$work"/*.o -o "$work/sanitized" -lpcre2-8 -lutf8proc

# Half of the time goes into the mutated files.
"$work/sanitized" 'mutated torch.save files*' >"$work/files" 2>&1 &
"$work/sanitized" '~mutated torch.save files*' | tail -n 4
wait $! || { cat "$work/files"; exit 1; }
tail -n 4 "$work/files"
