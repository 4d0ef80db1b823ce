#!/usr/bin/env bash
# overhead: edits of the prompt add no operator to decoding, edits of every token do; counts grow with layers only.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
[ -x "$bin/overhead" ] || fail "$bin/overhead is not built"

expect_code 0 overhead "$bin/overhead" --ranks 1,8 --layers 1,3,6 --positions 1,4 --repeats 2 --output "$work/o" --threads 1
picture "$work/o/overhead.svg" measured fitted "ranks   (vertical: extra µs)" "layers   (vertical: extra µs)" "positions   (vertical: extra µs)"
[ "$(json "$work/out" 'all(r["extra_decode_operators"] == 0 for r in o["rows"]), len(o["rows"])')" = "(True, 7)" ] ||
  { cat "$work/out" >&2; fail "edits of the prompt cost something at decoding"; }
# One edit costs the same operators whatever its rank and its number of positions; three cost three times as many.
[ "$(json "$work/out" 'len({r["extra_prefill_operators"] for r in o["rows"] if r["sweep"] != "layers"})')" = 1 ] || fail "rank or positions change the number of operators"
python3 - "$work/out" <<'PY' || fail "the operators of the prompt do not grow with the layers"
import json, sys
rows = json.loads(open(sys.argv[1]).read().strip().split("\n")[-1])["rows"]
extra = {r["value"]: r["extra_prefill_operators"] for r in rows if r["sweep"] == "layers"}
assert 0 < extra[1] < extra[3] < extra[6], extra
PY
[ "$(json "$work/out" 'sorted(o["prefill_microseconds_per"])')" = "['layer', 'position', 'rank']" ] || fail "no slopes"

expect_code 0 "overhead of every token" "$bin/overhead" --ranks 1 --layers 1 --positions 4 --repeats 1 --phase every --output "$work/o" --threads 1
[ "$(json "$work/out" 'all(r["extra_decode_operators"] > 0 for r in o["rows"])')" = True ] || fail "edits of decoded tokens are not counted"

expect_error 2 "--ranks" "$bin/overhead" --ranks one --output "$work/x"
expect_error 1 "--layers: expected 1 to 6, got 7" "$bin/overhead" --ranks 1 --layers 7 --output "$work/x"
