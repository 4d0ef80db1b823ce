#!/usr/bin/env bash
# classification as a user runs it: interventions and a head, the head alone, regression, an adapter used again, bad input.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories"

# A label that one word decides, among other words: 48 rows, 16 more to evaluate; the same with numbers; a third class.
python3 - "$work" <<'PY'
import random, sys
words, rows = "the dog ran to a tree and saw his big red ball in the park with mom".split(), random.Random(1)
def lines(count, labels):
    for i in range(count):
        text = rows.sample(words, 4) + [["happy", "sad", "old"][i % len(labels)]] + rows.sample(words, 3)
        yield " ".join(text) + "\t" + labels[i % len(labels)]
for name, count, labels in [("train", 48, ["good", "bad"]), ("dev", 16, ["good", "bad"]), ("numbers", 48, ["1.5", "-0.5"]), ("three", 9, ["good", "bad", "fair"])]:
    with open(f"{sys.argv[1]}/{name}.tsv", "w") as file:
        file.write("sentence\tlabel\n" + "\n".join(lines(count, labels)) + "\n")
PY

run=("$bin/classification" --threads 1 --quiet --model "$stories")
trained=("${run[@]}" --data "$work/train.tsv" --eval-data "$work/dev.tsv" --rank 1 --learning-rate 1e-2 --batch-size 8)

learns() {
  expect_code 0 "training" "${trained[@]}" --epochs 15 --output "$work/adapter" --metrics "$work/metrics.jsonl" --report "$work/report.html"
  cp "$work/out" "$work/result"
  [ "$(json "$work/result" 'o["eval_accuracy"] >= 0.9 and o["labels"] == ["bad", "good"] and o["steps"] == 90 and o["eval_loss"] < 0.5')" = True ] ||
    fail "it has not learned: $(cat "$work/result")"
  # a rank-1 LoReFT for each of two groups at two layers of width 128, and a head of two rows
  [ "$(json "$work/result" 'o["trainable_parameters"] - o["head_parameters"], o["head_parameters"]')" = "(1028, 256)" ] ||
    fail "other parameters than promised: $(cat "$work/result")"
  python3 - "$work/metrics.jsonl" <<'PY' || fail "the metrics file is not as promised"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert len([line for line in lines if "eval_loss" not in line]) == 90
assert all(0 <= line["accuracy"] <= 1 for line in lines if "eval_loss" not in line)
assert lines[-1]["eval_accuracy"] >= 0.9, lines[-1]
PY
  grep -q "evaluation accuracy\|accuracy" "$work/report.html" || fail "the report does not show the accuracy"

  # The adapter brings its head and its classes: evaluated again it gives the same.
  expect_code 0 "the adapter" "${trained[@]}" --init-adapter "$work/adapter" --max-steps 0 --output "$work/again"
  for key in eval_accuracy eval_loss; do
    [ "$(json "$work/out" "abs(o['$key'] - $(json "$work/result" "o['$key']")) < 1e-5")" = True ] || fail "$key of the adapter: $(cat "$work/out")"
  done
}

others() {
  expect_code 0 "the head alone" "${trained[@]}" --intervention none --epochs 1 --output "$work/head"
  [ "$(json "$work/out" 'o["trainable_parameters"] == o["head_parameters"] == 256')" = True ] || fail "not the head alone: $(cat "$work/out")"
  expect_code 0 "regression" "${run[@]}" --task regression --data "$work/numbers.tsv" --eval-fraction 0.2 --rank 1 --learning-rate 1e-2 --epochs 15 --output "$work/regression"
  [ "$(json "$work/out" 'o["train_loss"] < 0.1 and o["eval_loss"] < 0.9 and "eval_accuracy" not in o and o["head_parameters"] == 128')" = True ] ||
    fail "regression: $(cat "$work/out")"
  # A stopped run goes on as if it had not stopped.
  local flags=(--epochs 4 --checkpoint-every 5 --dropout 0.1)
  expect_code 0 "a whole run" "${trained[@]}" "${flags[@]}" --output "$work/whole"
  "${trained[@]}" "${flags[@]}" --output "$work/part" --metrics "$work/part.jsonl" >"$work/out" 2>"$work/err" &
  local pid=$!
  while kill -0 $pid 2>/dev/null && [ "$({ cat "$work/part.jsonl" 2>/dev/null || true; } | wc -l)" -lt 8 ]; do sleep 0.01; done
  kill -9 $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  expect_code 0 "resuming" "${trained[@]}" "${flags[@]}" --output "$work/part" --metrics "$work/part.jsonl" --resume
  cmp "$work/whole/adapter_model.safetensors" "$work/part/adapter_model.safetensors" || fail "a resumed run with a head differs"
}

bad_input() {
  local refused=("${run[@]}" --output "$work/never" --data "$work/train.tsv")
  expect_error 2 "--data" "${run[@]}" --output "$work/never"
  expect_error 2 "--task" "${refused[@]}" --task ranking
  expect_error 2 '"loreftt"' "${refused[@]}" --intervention loreftt
  expect_error 1 "nothing.tsv" "${run[@]}" --output "$work/never" --data "$work/nothing.tsv"
  expect_error 1 "nothing.tsv" "${refused[@]}" --eval-data "$work/nothing.tsv"
  expect_error 1 'three.tsv: line 4: expected the label to be one of [bad, good], got "fair"' "${refused[@]}" --eval-data "$work/three.tsv"
  expect_error 1 'train.tsv: line 2: expected the label to be a number, got "good"' "${refused[@]}" --task regression
  expect_error 1 'no column for the label, "stars"' "${refused[@]}" --label-column stars
  expect_error 1 "--metric-for-best f1: expected one of [loss, accuracy]" "${refused[@]}" --metric-for-best f1
  expect_error 1 "--metric-for-best needs --eval-data" "${refused[@]}" --metric-for-best accuracy
  expect_error 1 "the folder exists and is not empty" "${run[@]}" --data "$work/train.tsv" --output "$work/adapter"
  printf 'sentence\tlabel\na\tx\nb\tx\n' >"$work/one.tsv"
  expect_error 1 "expected at least two classes, got [x]" "${run[@]}" --output "$work/never" --data "$work/one.tsv"
  # an adapter with other classes, with a head of another width, of another base
  expect_error 1 'expected the label to be one of [bad, good], got "fair"' "${run[@]}" --output "$work/never" --data "$work/three.tsv" --init-adapter "$work/adapter"
  expect_error 1 "score.weight: expected shape [1, 128], got [2, 128]" "${run[@]}" --output "$work/never" --data "$work/numbers.tsv" --task regression --init-adapter "$work/adapter"
  expect_error 1 "but the model has 6 of width 144" "$bin/classification" --threads 1 --quiet --model "$source_dir/examples/tiny_model" \
    --output "$work/never" --data "$work/train.tsv" --init-adapter "$work/adapter"
  expect_error 1 "score.weight was trained with the interventions" "$bin/generate" --threads 1 --model "$stories" --tokens 1,2 --adapter "$work/adapter"
  [ ! -e "$work/never" ] || fail "a refused command left its folder"
}

learns
others
bad_input
