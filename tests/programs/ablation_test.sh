#!/usr/bin/env bash
# ablation: a row for each form and seed, and a form with W h learns more than the bias-only one.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
[ -x "$bin/ablation" ] || fail "$bin/ablation is not built"

expect_code 0 ablation "$bin/ablation" --forms lobireft,loreft --seeds 1 --epochs 2 --max-examples 160 --max-questions 5 --output "$work/a" --threads 1
picture "$work/a/ablation.svg" lobireft loreft mean
[ "$(json "$work/out" 'len(o["runs"]), o["has_the_papers_order"]')" = "(2, None)" ] || fail "not a run for each form and seed, or an order of two forms"
[ "$(json "$work/out" '{f["form"]: f["loss"] for f in o["forms"]}["loreft"] < {f["form"]: f["loss"] for f in o["forms"]}["lobireft"]')" = True ] ||
  { cat "$work/out" >&2; fail "W h buys nothing"; }
[ "$(json "$work/out" '{f["form"]: f["parameters"] for f in o["forms"]}')" = "{'lobireft': 3480, 'loreft': 6936}" ] || fail "other numbers of parameters"
expect_error 2 "--forms" "$bin/ablation" --forms lora --output "$work/x"
