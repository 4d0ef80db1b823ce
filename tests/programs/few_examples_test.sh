#!/usr/bin/env bash
# few_examples: ten examples teach the bare answer, none do not; another format and bad input are seen as such.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
[ -x "$bin/few_examples" ] || fail "$bin/few_examples is not built"

expect_code 0 few_examples "$bin/few_examples" --counts 10 --draws 1 --max-questions 40 --output "$work/f" --threads 1
picture "$work/f/few_examples.svg" "answers, per cent" "lowest, highest" "right answer" "format, per cent" draw 10 42
# 92 % of these 40 questions where it was written; roundings of another processor may move an answer or two.
[ "$(json "$work/out" 'o["base_format_rate"] == 0.0 and o["counts"][0]["format_rate"] >= 0.85')" = True ] || { cat "$work/out" >&2; fail "ten examples do not teach a format"; }
python3 -c 'import json, sys
run = json.load(open(sys.argv[1]))[0]
print(len(run["answers"]) + round(40 * float(sys.argv[2])) == 40 and not any("." not in miss["answer"] for miss in run["answers"]))' \
  "$work/f/misses.json" "$(json "$work/out" 'o["runs"][0]["format_rate"]')" | grep -q True || { cat "$work/f/misses.json" >&2; fail "answers without the format are not those"; }
grep -q "after 10 examples: " "$work/out" || fail "no answers to look at"

# Another format: the rate is that of the format that was asked for, here any answer with a full stop.
expect_code 0 "another format" "$bin/few_examples" --format '(.|\n)*[.](.|\n)*' --counts 1 --draws 1 --steps 0 --max-questions 10 --output "$work/s" --threads 1
[ "$(json "$work/out" 'o["base_format_rate"] > 0.99')" = True ] || { cat "$work/out" >&2; fail "the base's sentences are not seen as such"; }

expect_error 1 "--counts: 9999 examples" "$bin/few_examples" --counts 9999 --output "$work/x"
expect_error 1 "chat template" "$bin/few_examples" --template chat --counts 1 --output "$work/x"
expect_error 2 "--format" "$bin/few_examples" --format "[[" --output "$work/x"
