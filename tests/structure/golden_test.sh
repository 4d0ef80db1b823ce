#!/usr/bin/env bash
# The committed golden data stays under 2 MiB in all.
set -euo pipefail
cd "${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { echo "skip: not a git checkout"; exit 77; }
bytes=$(git ls-files -z tests/golden | xargs -0 cat | wc -c)
[ "$bytes" -gt 0 ] && [ "$bytes" -lt $((2 << 20)) ] || { echo "tests/golden holds $bytes bytes, expected 1..$((2 << 20))"; exit 1; }
