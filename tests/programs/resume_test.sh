#!/usr/bin/env bash
# kill -9 at random moments, 20 times: with --resume the adapter and the metrics are those of a run that was never
# interrupted, bit for bit, the best evaluation's parameters included.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

train=("$bin/alpaca_sft" --threads 1 --quiet --model "$source_dir/examples/tiny_model" --data "$source_dir/examples/data/instructions_train.json"
  --max-examples 200 --eval-fraction 0.1 --max-length 96 --batch-size 6 --epochs 5 --dropout 0.1 --learning-rate 1e-2 --eval-every 20
  --metric-for-best loss --checkpoint-every 3 --keep-checkpoints 2)
expect_code 0 "the uninterrupted run" "${train[@]}" --output "$work/whole" --metrics "$work/whole.jsonl"
best_step=$(json "$work/out" 'o["best_step"]')

lines() { wc -l <"$work/killed.jsonl"; }
: >"$work/killed.jsonl"
RANDOM=20
in_training=0
for round in $(seq 20); do
  # Every fourth comes while the program loads or begins, the others some steps later; a step takes a few milliseconds.
  target=$(($(lines) + RANDOM % 7))
  "${train[@]}" --output "$work/killed" --metrics "$work/killed.jsonl" --resume >"$work/out" 2>"$work/err" &
  pid=$!
  if [ $((round % 4)) -ne 0 ]; then
    while kill -0 $pid 2>/dev/null && [ "$(lines)" -le "$target" ]; do sleep 0.002; done
    in_training=$((in_training + 1))
  fi
  sleep "0.0$((RANDOM % 100))"
  kill -KILL $pid 2>/dev/null || true
  code=0
  wait $pid 2>/dev/null || code=$?
  [ $code -eq 137 ] || fail "round $round was not killed but ended with code $code: $(tail -n 1 "$work/err")"
done
expect_code 0 "the last run" "${train[@]}" --output "$work/killed" --metrics "$work/killed.jsonl" --resume
echo "killed 20 times, $in_training of them among $(json "$work/out" 'o["steps"]') steps; the best was step $best_step"
[ "$(json "$work/out" 'o["best_step"]')" -eq "$best_step" ] || fail "another best step"

for name in adapter_model.safetensors adapter_config.json; do
  cmp "$work/whole/$name" "$work/killed/$name" || fail "$name differs from the uninterrupted run's"
done
without_speed() {
  python3 -c 'import json, sys
for line in open(sys.argv[1]):
    o = json.loads(line)
    o.pop("tokens_per_second", None)
    print(json.dumps(o))' "$1"
}
cmp <(without_speed "$work/whole.jsonl") <(without_speed "$work/killed.jsonl") || fail "the metrics differ"
# A write that was cut off may have left its hidden temporary file; nothing else.
[ "$(ls "$work/killed")" = "$(ls "$work/whole")" ] || fail "left behind: $(ls -A "$work/killed")"

# SIGTERM is as ctrl-C: a checkpoint, and a code that says which signal it was.
: >"$work/ended.jsonl"
"${train[@]}" --output "$work/ended" --metrics "$work/ended.jsonl" >"$work/out" 2>"$work/err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ "$(wc -l <"$work/ended.jsonl")" -lt 5 ]; do sleep 0.002; done
kill -TERM $pid
code=0
wait $pid || code=$?
[ $code -eq 143 ] || fail "SIGTERM: exit code $code"
[ -e "$work/ended/checkpoint.safetensors" ] || fail "SIGTERM left no checkpoint"
expect_code 0 "resuming after SIGTERM" "${train[@]}" --output "$work/ended" --resume
cmp "$work/whole/adapter_model.safetensors" "$work/ended/adapter_model.safetensors" || fail "the adapter differs after SIGTERM"
