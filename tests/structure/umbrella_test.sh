#!/usr/bin/env bash
# reft.hpp includes every header, room by room in the order data flows.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$source_dir/include"
[ -e reft/reft.hpp ] || { echo "skip: include/reft/reft.hpp is not written yet"; exit 77; }

includes() { sed -nE 's/^\s*#\s*include\s*[<"](reft\/[^>"]+)[>"].*/\1/p' "$1"; }

reached=$'reft/reft.hpp\n'
queue=(reft/reft.hpp)
while [ ${#queue[@]} -gt 0 ]; do
  header=${queue[0]}
  queue=("${queue[@]:1}")
  for next in $(includes "$header"); do
    [ -e "$next" ] || { echo "$header includes $next, which does not exist"; exit 1; }
    [[ $reached == *"$next"$'\n'* ]] && continue
    reached+=$next$'\n'
    queue+=("$next")
  done
done
unreached=$(comm -13 <(sort <<<"$reached") <(find reft -name '*.hpp' | sort))
[ -z "$unreached" ] || { echo "not reached from reft.hpp:"; echo "$unreached"; exit 1; }

rooms=" $(tr '\n' ' ' <"$source_dir/tests/structure/rooms.txt")"
last=0
for header in $(includes reft/reft.hpp); do
  room=${header#reft/}
  before=${rooms%% "${room%%/*}" *}
  [ ${#before} -ge "$last" ] || { echo "reft.hpp: $header comes after a room below it"; exit 1; }
  last=${#before}
done
