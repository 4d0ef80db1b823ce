#!/usr/bin/env bash
# Builds and runs every test. Real test data is read from REFT_SHARED_DIR (default: ../shared) where it exists.
set -euo pipefail
cd "$(dirname "$0")/.."
export REFT_SHARED_DIR=${REFT_SHARED_DIR:-$(cd .. && pwd)/shared}
bash cmake/bootstrap.sh
cmake --preset test >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
rm -f build-configure.log
cmake --build --preset test
log=build/test/ctest.log
status=0
ctest --preset test --verbose >"$log" 2>&1 || status=$?
# The evidence: what failed in full, then what was skipped and why, then the count.
[ $status -eq 0 ] || cat "$log"
grep -E '^[0-9]+: (skip: |All tests passed|test cases:)' "$log" | sed 's/^[0-9]*: //' || true
grep -E '\*\*\*Skipped' "$log" | sed 's/^/skip: /' || true
skipped=$(( $(grep -cE '\*\*\*Skipped' "$log" || true) + $(sed -nE 's/^[0-9]+: skipped: ([0-9]+)$/\1/p' "$log" | paste -sd+ | sed 's/^$/0/') ))
cases=$(sed -nE 's/^[0-9]+: (All tests passed .* in ([0-9]+) test cases?\)|test cases: +[0-9]+ \| +([0-9]+) passed.*)$/\2\3/p' "$log" | paste -sd+ | sed 's/^$/0/')
failed_cases=$(sed -nE 's/^[0-9]+: test cases:.* ([0-9]+) failed.*$/\1/p' "$log" | paste -sd+ | sed 's/^$/0/')
scripts_passed=$(grep -E '_test \.+ +Passed' "$log" | wc -l)
scripts_failed=$(grep -E '_test \.+\*+(Failed|Timeout|Exception)' "$log" | wc -l)
failed=$(( failed_cases + scripts_failed ))
[ $status -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$(( cases + scripts_passed )) passed, $failed failed, $skipped skipped"
exit $status
