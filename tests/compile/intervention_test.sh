#!/usr/bin/env bash
# A type that is no Intervention is told by the compiler what it lacks and how to add it.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
flags=${REFT_BUILD_DIR:-}/tests/compile-flags.txt
[ -e "$flags" ] || { echo "skip: REFT_BUILD_DIR names no configured build"; exit 77; }
unit=$source_dir/tests/compile/intervention.cpp
log=$(mktemp)
trap 'rm -f "$log"' EXIT
compile() { LC_ALL=C "${REFT_CXX:-c++}" @"$flags" -fsyntax-only "$@" "$unit" >"$log" 2>&1; }

! compile -DWRONG || { echo "wrong interventions compile"; exit 1; }
sed -n 's|^// expect: ||p' "$unit" | while read -r text; do
  grep 'error: ' "$log" | grep -qF -- "$text" || { cat "$log"; echo "the compiler did not say: $text"; exit 1; }
done
# Nothing else is wrong: the complete type and the concept itself hold. (One fault may break what needs the same thing.)
! grep 'error: ' "$log" | grep -vE 'static assertion failed: an intervention ' || { echo "an error that was not meant"; exit 1; }
! grep -E 'require_intervention.*Complete' "$log" || { echo "the complete intervention was refused"; exit 1; }
