#!/usr/bin/env bash
# The closing count of tests/run.sh, on what ctest prints for passes, skips, failures, a crash and a timeout.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
# expect STATUS EXPECTED_EXIT EXPECTED_LAST_LINE <log
expect() {
  local said code=0
  said=$(awk -v status="$1" -f "$source_dir/tests/summary.awk") || code=$?
  [ "$code" -eq "$2" ] && [ "$(tail -1 <<<"$said")" = "$3" ] || { echo "expected exit $2 and '$3', got exit $code and:"; echo "$said"; exit 1; }
}

good='1: All tests passed (9 assertions in 3 test cases)
1: skip: 2 x no data
1: skipped: 2
1/3 Test #1: good .............................   Passed    0.01 sec
4/8 Test #4: structure/ok_test ................   Passed    0.00 sec
6: skip: no tool
6/8 Test #6: structure/skip_test ..............***Skipped   0.00 sec'
expect 0 0 "2 passed, 0 failed, 3 skipped" <<<"$good"

bad='2: test cases: 4 | 2 passed | 1 failed | 1 failed as expected
2: assertions: 4 | 2 passed | 1 failed | 1 failed as expected
2: skipped: 0
2/8 Test #2: bad ..............................***Failed    0.00 sec
3/8 Test #3: crash ............................***Exception: SegFault  0.00 sec
8/8 Test #8: structure/slow_test ..............***Timeout   1.00 sec'
expect 8 1 "5 passed, 3 failed, 3 skipped" <<<"$good"$'\n'"$bad"
expect 8 1 "2 passed, 1 failed, 3 skipped" <<<"$good"  # ctest failed, whatever it printed
expect 0 1 "0 passed, 0 failed, 0 skipped" <<<"No tests were found!!!"
