#!/usr/bin/env bash
# No committed file knows one machine's folders; tests make their temporary files with mktemp or the like.
set -euo pipefail
cd "${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { echo "skip: not a git checkout"; exit 77; }

pattern='(^|[^]}/.[:alnum:]_-])/(work|root|home|opt|tmp|mnt|Users)/'
printf 'see "/%s/x"\n' root | grep -qE "$pattern" || { echo "the check misses a planted path"; exit 1; }
found=$(git grep -nIE "$pattern" -- . ':!*.json' ':!*.jsonl' || true)
[ -z "$found" ] || { echo "$found"; exit 1; }
