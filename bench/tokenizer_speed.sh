#!/usr/bin/env bash
# tokenizer_speed.sh FILE FOLDER...: how fast `tokenize` encodes a text file with the tokenizer of each folder, as a table.
# CPU seconds of one thread, best of three runs, less those of an empty text (start, and reading the tokenizer).
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
bin=${REFT_BIN:-$(cd "$(dirname "$0")/.." && pwd)/build/release/bin}
file=$1 megabytes=$(($(wc -c <"$1") / 1000))e-3
shift

# cpu COMMAND...: the least user and system time of three runs.
cpu() {
  local TIMEFORMAT='%U %S'
  for _ in 1 2 3; do { time "$@" >/dev/null 2>&1; } 2>&1; done | awk '{ t = $1 + $2; if (NR == 1 || t < least) least = t } END { print least }'
}

echo "| tokenizer | MB/s | seconds | start, seconds |"
echo "|---|---|---|---|"
for folder; do
  start=$(cpu "$bin/tokenize" --model "$folder" --text "")
  whole=$(cpu "$bin/tokenize" --model "$folder" --file "$file")
  awk -v n="$(basename "$folder")" -v m="$megabytes" -v s="$start" -v w="$whole" \
    'BEGIN { printf "| %s | %.1f | %.2f | %.2f |\n", n, m / (w - s), w - s, s }'
done
