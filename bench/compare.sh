#!/usr/bin/env bash
# Measures reft and pyreft side by side, in turn and on the same weights, and prints one table of ratios.
#   bench/compare.sh [quick|full] [OUTPUT]      quick: about ten minutes; full: up to two hours
# Further settings by environment: ROUNDS (5; 3 when quick), THREADS (1). Needs REFT_SHARED_DIR (default: ../shared) with the
# peers' pyreft_bench.py and the models and data it measures on. OUTPUT.json and OUTPUT.md are written (default: build/compare).
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shared=$(cd "${REFT_SHARED_DIR:-$project/../shared}" && pwd)
effort=${1:-full} output=${2:-$project/build/compare}
case $effort in quick | full) ;; *) echo "usage: bench/compare.sh [quick|full] [OUTPUT]" >&2; exit 2 ;; esac
cd "$project"
bash cmake/bootstrap.sh
cmake --preset release >/dev/null
cmake --build --preset release --target reft_bench alpaca_sft
python=$project/build/peers-bench/bin/python
"$python" -c 'import pyreft, peft, transformers' >/dev/null 2>&1 || bash "$shared/peers/setup.sh" "$project/build/peers-bench"
"$python" bench/compare.py --effort "$effort" --rounds "${ROUNDS:-$([ "$effort" = quick ] && echo 3 || echo 5)}" --threads "${THREADS:-1}" \
  --bin build/release/bin --shared "$shared" --output "$output"
