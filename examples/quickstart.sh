#!/usr/bin/env bash
# From a bare machine to a trained adapter: sets up, builds alpaca_sft and runs it on the embedded model and data.
# Further arguments go to alpaca_sft: `quickstart.sh --model DIR --data FILE`, or `quickstart.sh --help`.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$project/cmake/bootstrap.sh"
mkdir -p "$project/build"
log=$project/build/quickstart.log
(cd "$project" && cmake --preset release) >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo "quickstart: building alpaca_sft (the first time takes a minute or two)" >&2
cmake --build "$project/build/release" --target alpaca_sft >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

# Its own output folder may be written again; one that was named, or is resumed, is left to alpaca_sft's rules.
adapter=$project/build/quickstart-adapter
output=(--output "$adapter" --overwrite)
previous=
for argument in "$@"; do
  case $argument in
    --output=*) adapter=${argument#*=} output=() ;;
    --resume) [ ${#output[@]} -eq 0 ] || output=(--output "$adapter") ;;
    -h | --help) exec "$project/build/release/bin/alpaca_sft" "$@" ;;
  esac
  [ "$previous" != --output ] || adapter=$argument output=()
  previous=$argument
done
"$project/build/release/bin/alpaca_sft" "${output[@]}" "$@"
