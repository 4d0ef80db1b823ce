#!/usr/bin/env bash
# The arrows between the rooms of include/reft, and what a library never does: print, exit, read the environment.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}

# In the order data flows; a room includes only itself and rooms before it.
rooms=$(tr '\n' ' ' <"$source_dir/tests/structure/rooms.txt")

# violations INCLUDE_DIR: one line each, nothing if all is well.
violations() (
  cd "$1"
  grep -rnE '^\s*#\s*include\s*[<"]reft/' reft | tr -d ' ' | awk -v rooms="$rooms" '
    BEGIN { count = split(rooms, names, " "); for (i = 1; i <= count; ++i) order[names[i]] = i }
    function room(path) { sub(/^reft\//, "", path); sub(/\/.*/, "", path); return path }
    {
      split($0, part, ":"); from = room(part[1]); split($0, quoted, /[<">]/); to = room(quoted[2])
      where = part[1] ":" part[2] ": includes " quoted[2]
      if (from == "reft.hpp") next
      if (!(from in order)) print where ", and its own room " from " is not in the list of rooms"
      else if (!(to in order)) print where ", which is in no known room"
      else if (order[to] > order[from]) print where ", a room below " from
      else if (from == "model" && to == "intervention") print where "; only reft_model.hpp knows both"
    }'
  grep -rnE '#\s*include\s*<torch/(torch|all)\.h>' reft || true
  # Comments may speak of these.
  find reft -name '*.hpp' | sort | while read -r header; do
    sed 's://.*::' "$header" | grep -nE \
      'std::(cout|cerr|clog)|\b(printf|puts|putchar|perror|getenv|secure_getenv|setenv)\s*\(|fprintf\s*\(\s*std(out|err)|fmt::print(ln)?\s*\(\s*(std(out|err)|")|(^|[^.>_[:alnum:]])(std::)?(exit|_Exit|quick_exit|abort|terminate)\s*\(' |
      sed "s|^|$header:|" || true
  done
)

# The check itself is checked on a house with one fault of each kind.
faulty=$(mktemp -d)
trap 'rm -rf "$faulty"' EXIT
mkdir -p "$faulty"/reft/{tensor,model,hook,shed}
echo '#include "reft/hook/site.hpp"' >"$faulty/reft/tensor/below.hpp"
echo '#include "reft/intervention/edit.hpp"' >"$faulty/reft/model/meets.hpp"
echo '#include "reft/tensor/checks.hpp"' >"$faulty/reft/shed/unknown.hpp"
echo '#include <torch/torch.h>' >"$faulty/reft/hook/heavy.hpp"
echo 'inline void f() { if (!std::getenv("HOME")) std::exit(1); }  // allowed here: std::cout' >"$faulty/reft/hook/quits.hpp"
for fault in 'below.hpp:1: .* a room below tensor' 'meets.hpp:1: .* only reft_model.hpp' 'unknown.hpp:1: .* not in the list' \
  'heavy.hpp:1:' 'quits.hpp:1:'; do
  violations "$faulty" | grep -q "$fault" || { echo "the check missed a planted fault: $fault"; exit 1; }
done
[ "$(violations "$faulty" | wc -l)" -eq 5 ] || { echo "the check sees faults that are none:"; violations "$faulty"; exit 1; }

found=$(violations "$source_dir/include")
[ -z "$found" ] || { echo "$found"; exit 1; }

version=$(sed -nE 's/^project\(reft VERSION ([0-9.]+) .*/\1/p' "$source_dir/CMakeLists.txt")
grep -q "kVersion = \"$version\"" "$source_dir/include/reft/version.hpp" ||
  { echo "version.hpp does not say $version, as CMakeLists.txt does"; exit 1; }
