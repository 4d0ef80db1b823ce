#!/usr/bin/env bash
# Every header compiles without another one before it.
#
# Headers free of torch are compiled alone. Reading LibTorch takes most of the time of any other, so those are compiled
# room by room, the last in the alphabet first: most of what a header forgets to include has then not been read yet.
# (The umbrella is compiled by the consumer test.)
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
flags=${REFT_BUILD_DIR:-}/tests/compile-flags.txt
[ -e "$flags" ] || { echo "skip: REFT_BUILD_DIR names no configured build"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One line per header: "light PATH" or "ROOM PATH", as it reaches LibTorch or not.
cd "$source_dir/include"
find reft -name '*.hpp' ! -name reft.hpp | sort -r | xargs awk '
  FNR == 1 { headers[++count] = FILENAME }
  /^ *# *include *[<"]/ {
    split($0, quoted, /[<">]/)
    if (quoted[2] ~ /^(torch|ATen|c10)\//) heavy[FILENAME] = 1
    if (quoted[2] ~ /^reft\//) edges[FILENAME] = edges[FILENAME] " " quoted[2]
  }
  END {
    do {
      changed = 0
      for (header in edges) {
        many = split(edges[header], targets, " ")
        for (i = 1; i <= many; ++i) if (!(header in heavy) && (targets[i] in heavy)) changed = heavy[header] = 1
      }
    } while (changed)
    for (i = 1; i <= count; ++i) {
      split(headers[i], part, "/")
      print((headers[i] in heavy) ? part[2] : "light", headers[i])
    }
  }' >"$work/headers"

cd "$work"  # relative names let ccache know the files again
while read -r room header; do
  [ "$room" = light ] && unit=${header//\//-}.cpp || unit=room-$room.cpp
  echo "#include \"$header\"" >>"$unit"
done <headers

# Compiled rather than only parsed where ccache can remember the result.
compile() {
  local launcher=()
  command -v ccache >/dev/null && launcher=(ccache)
  "${launcher[@]}" "${REFT_CXX:-c++}" @"$flags" -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers \
    -Werror -O0 -c "$1" -o "$1.o" || { echo "does not compile: $(tr '\n' ' ' <"$1")"; return 1; }
}
export -f compile
export flags

# A header that forgets an include must fail here.
echo 'inline std::string f() { return {}; }' >forgets.cpp
! compile forgets.cpp >/dev/null 2>&1 || { echo "the check missed a header without its include"; exit 1; }
rm forgets.cpp

echo "$(grep -c '^light' headers) headers alone, $(grep -vc '^light' headers) in $(ls room-*.cpp | wc -l) rooms"
ls -S ./*.cpp | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
