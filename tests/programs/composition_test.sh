#!/usr/bin/env bash
# composition at small settings: each task shows alone, off means off, the picture and the angles are there, bad input is refused.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
[ -x "$bin/composition" ] || fail "$bin/composition is not built"

# row NAME KEY: of composition's table.
row() { json "$work/composition" "[r for r in o['rows'] if r['name'] == '$1'][0]['$2']"; }

expect_code 0 composition "$bin/composition" --epochs 1 --batch-size 8 --max-questions 12 --output "$work/c" --threads 1
cp "$work/out" "$work/composition"
picture "$work/c/composition.svg" base "one adapter, A + B" German follow both
at_least 0.1 "$(row base followed)" || fail "the base follows instructions already: $(row base followed)"
at_least 0.1 "$(row base german)" || fail "the base answers in German already"
at_least "$(row 'one adapter, B' followed)" 0.5 || fail "B does not follow instructions: $(row 'one adapter, B' followed)"
at_least "$(row 'one adapter, A' german)" 0.5 || fail "A does not answer in German: $(row 'one adapter, A' german)"
# The base knows the facts in German, and its bare answers are seen as German ones: the rates have room for A + B.
at_least "$(row 'base, asked in German' followed)" 0.8 || fail "the base does not know the facts in German: $(row 'base, asked in German' followed)"
at_least "$(row 'base, asked in German' german)" 0.99 || fail "bare German answers do not count as German: $(row 'base, asked in German' german)"
[ "$(json "$work/composition" 'all(sum(asked for _, asked in r["followed_of_kind"].values()) == 12 for r in o["rows"])')" = True ] || fail "a question without a kind"
[ "$(json "$work/composition" 'all(0 <= a <= 90 for site in o["conflicts"] for a in site["principal_angles_degrees"]) and len(o["conflicts"])')" = 1 ] ||
  fail "no angles for the edited layer"
echo '{"german": []}' >"$work/empty.json"
expect_error 1 "none of 0 examples" "$bin/composition" --data "$work/empty.json" --output "$work/x"
expect_error 1 "no such file" "$bin/composition" --data "$work/none" --output "$work/x"
