#!/usr/bin/env bash
# preference as a user runs it: DPO raises the margins and leaves the base alone, a reward model learns the choices, bad input.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
pairs=$shared/assets/datasets/dpo/llamafactory_dpo_en_demo.json
need "$stories" "$pairs"

# The data are conversations, so the model is given a template for them.
model=$work/model
cp -r "$stories" "$model"
chmod -R u+w "$model"
cat >"$model/chat_template.jinja" <<'JINJA'
{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}{% else %}{{ message['content'] }}
{% endif %}{% endfor %}
JINJA
run=("$bin/preference" --threads 1 --quiet --model "$model" --data "$pairs" --max-length 96 --batch-size 4 --learning-rate 1e-2)

dpo() {
  local before
  before=$(sha256sum <"$model/model.safetensors")
  expect_code 0 "dpo" "${run[@]}" --max-examples 24 --eval-fraction 0.25 --epochs 8 --output "$work/dpo" --metrics "$work/metrics.jsonl"
  cp "$work/out" "$work/result"
  python3 - "$work/metrics.jsonl" <<'PY' || fail "the margins do not rise as promised"
import json, math, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if "eval_loss" not in line]
# The start is the base itself: no margin, and a loss of ln 2.
assert abs(steps[0]["margin"]) < 1e-4 and abs(steps[0]["loss"] - math.log(2)) < 1e-4, steps[0]
first, last = steps[:6], steps[-6:]
mean = lambda part, key: sum(line[key] for line in part) / len(part)
assert mean(last, "margin") > mean(first, "margin") + 0.2, (mean(first, "margin"), mean(last, "margin"))
assert mean(last, "loss") < mean(first, "loss") and mean(last, "accuracy") > 0.8, last
for line in steps:
    assert abs(line["margin"] - (line["chosen_reward"] - line["rejected_reward"])) < 1e-4, line
assert {"eval_loss", "eval_margin", "eval_accuracy"} <= set(lines[-1])
PY
  [ "$(sha256sum <"$model/model.safetensors")" = "$before" ] || fail "the base has changed"
  expect_code 0 "the adapter answers" "$bin/generate" --threads 1 --model "$model" --adapter "$work/dpo" --tokens 1,20,30 --max-new-tokens 4
}

reward() {
  expect_code 0 "reward" "${run[@]}" --objective reward --max-examples 16 --epochs 12 --output "$work/reward" --metrics "$work/reward.jsonl"
  python3 - "$work/reward.jsonl" <<'PY' || fail "the reward model has not learned the choices"
import json, sys
steps = [json.loads(line) for line in open(sys.argv[1])]
assert sum(line["accuracy"] for line in steps[-4:]) / 4 > 0.9, steps[-4:]
PY
  [ "$(json "$work/out" 'o["trainable_parameters"]')" = $((2 * 2 * (2 * 4 * 128 + 4) + 128)) ] || fail "reward: $(cat "$work/out")"
}

bad_input() {
  local refused=("${run[@]}" --output "$work/never")
  expect_error 1 "only alpaca_sft shares its work" env WORLD_SIZE=2 RANK=0 "${refused[@]}"
  expect_error 2 "--objective" "${refused[@]}" --objective ppo
  expect_error 2 "--beta" "${refused[@]}" --beta 0
  expect_error 1 "--beta: --objective reward has none" "${refused[@]}" --objective reward --beta 0.2
  expect_error 1 "--head-learning-rate: --objective dpo trains no head" "${refused[@]}" --head-learning-rate 1e-3
  expect_error 1 "--metric-for-best bleu: expected one of [loss, accuracy, margin]" "${refused[@]}" --metric-for-best bleu --max-examples 4
  expect_error 1 "but the model has 6 of width 144" "$bin/preference" --threads 1 --quiet --model "$source_dir/examples/tiny_model" \
    --data "$work/texts.jsonl" --output "$work/never" --init-adapter "$work/dpo"
  expect_error 1 "chat messages need a tokenizer that has a chat template" "$bin/preference" --model "$stories" --data "$pairs" --output "$work/never"
  expect_error 1 'bad.jsonl: line 1: "rejected" is missing' "$bin/preference" --model "$stories" --data "$work/bad.jsonl" --output "$work/never"
  expect_error 1 "nothing.json" "$bin/preference" --model "$stories" --data "$work/nothing.json" --output "$work/never"
  expect_error 1 "score.weight was trained with the interventions" "${refused[@]}" --max-examples 4 --init-adapter "$work/reward"
  [ ! -e "$work/never" ] || fail "a refused command left its folder"
}

echo '{"prompt":"a","chosen":"b","rejected":"c"}' >"$work/texts.jsonl"
echo '{"prompt":"a","chosen":"b"}' >"$work/bad.jsonl"
dpo
reward
bad_input
