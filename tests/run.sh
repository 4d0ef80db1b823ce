#!/usr/bin/env bash
# Builds and runs every test. Real test data is read from REFT_SHARED_DIR (default: ../shared) where it exists.
# What failed is printed in full, then what was skipped and why; the last line counts: N passed, N failed, N skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
export REFT_SHARED_DIR=${REFT_SHARED_DIR:-$(cd .. && pwd)/shared}
log=build/test/ctest.log
not_built() { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

bash cmake/bootstrap.sh || not_built
mkdir -p build
cmake --preset test >build/configure.log 2>&1 || { cat build/configure.log; not_built; }
cmake --build --preset test || not_built
status=0
ctest --preset test --verbose >"$log" 2>&1 || status=$?
awk -v status="$status" -f tests/summary.awk "$log"
