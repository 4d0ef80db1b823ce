#!/usr/bin/env bash
# Where alpaca_sft takes its data from: several files, weights, streams and caches give the training they should. And what
# is measured meanwhile: generation, the best parameters, patience.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

base=("$bin/alpaca_sft" --threads 1 --quiet --model "$source_dir/examples/tiny_model" --batch-size 8 --rank 2)
train=("${base[@]}" --epochs 2)
python3 - "$source_dir/examples/data/instructions_train.json" "$work" <<'PY'
import json, sys
rows, work = json.load(open(sys.argv[1])), sys.argv[2]
json.dump(rows[:60], open(f"{work}/a.json", "w"))
with open(f"{work}/b.jsonl", "w") as file:
    for row in rows[60:80]: file.write(json.dumps(row) + "\n")
with open(f"{work}/both.jsonl", "w") as file:
    for row in rows[:80]: file.write(json.dumps(row) + "\n")
open(f"{work}/story.txt", "w").write("Anna lives in Berlin.\n\nOnly one of these words is a tool: hammer.\n" * 10)
PY
same() { cmp "$work/$1/adapter_model.safetensors" "$work/$2/adapter_model.safetensors" || fail "$1 and $2 were trained differently"; }

expect_code 0 "one file" "${train[@]}" --data "$work/both.jsonl" --output "$work/one"
expect_code 0 "two files" "${train[@]}" --data "$work/a.json" --data "$work/b.jsonl" --output "$work/two"
same one two
expect_code 0 "streamed" "${train[@]}" --stream --data "$work/a.json" --data "$work/b.jsonl" --output "$work/streamed"
same one streamed

expect_code 0 "cached" "${train[@]}" --data "$work/both.jsonl" --data-cache "$work/cache" --output "$work/cached"
same one cached
before=$(cd "$work/cache" && sha256sum -- * && stat -c %y -- *)
expect_code 0 "from the cache" "${train[@]}" --data "$work/both.jsonl" --data-cache "$work/cache" --output "$work/again"
same one again
[ "$(cd "$work/cache" && sha256sum -- * && stat -c %y -- *)" = "$before" ] || fail "the cache was written again"
expect_code 0 "another length" "${train[@]}" --data "$work/both.jsonl" --data-cache "$work/cache" --max-length 64 --output "$work/shorter"
[ "$(find "$work/cache" -type f | wc -l)" -eq 2 ] || fail "other options used the same cache"
expect_error 1 "choose one" "${train[@]}" --data "$work/both.jsonl" --data-cache "$work/cache" --stream --output "$work/never"

# 80 draws an epoch, 40 of each file: those of the small one come twice.
expect_code 0 "weights" "${train[@]}" --data "$work/a.json" --data "$work/b.jsonl" --data-weights 1,1 --output "$work/mixed"
[ "$(json "$work/out" 'o["steps"]')" -eq 20 ] || fail "weights: $(cat "$work/out")"
! cmp -s "$work/one/adapter_model.safetensors" "$work/mixed/adapter_model.safetensors" || fail "weights change nothing"
# A file of weight 0 is never drawn from: 2 epochs of 80 draws are 8 passes over the other.
expect_code 0 "weight 0" "${train[@]}" --data "$work/a.json" --data "$work/b.jsonl" --data-weights 0,1 --output "$work/only"
tokens=$(json "$work/out" 'o["tokens"]')
expect_code 0 "the other alone" "${base[@]}" --epochs 8 --data "$work/b.jsonl" --output "$work/alone"
[ "$(json "$work/out" 'o["tokens"]')" -eq "$tokens" ] || fail "a file of weight 0 was drawn from"
expect_error 1 "--data-weights: expected 2 numbers" "${train[@]}" --data "$work/a.json" --data "$work/b.jsonl" --data-weights 1 --output "$work/never"
expect_error 1 "expected 2 weights of at least 0" "${train[@]}" --data "$work/a.json" --data "$work/b.jsonl" --data-weights 0,0 --output "$work/never"

expect_code 0 "plain text" "${train[@]}" --data "$work/story.txt" --output "$work/plain"
[ "$(json "$work/out" 'o["steps"]')" -eq 6 ] || fail "plain text: $(cat "$work/out")"

# A stream finds a bad row when it comes to it, and names it; nothing is finished then.
{ cat "$work/b.jsonl"; echo '{"instruction":"a"}'; } >"$work/bad.jsonl"
expect_error 1 'bad.jsonl: line 21: "output" is missing' "${train[@]}" --stream --data "$work/bad.jsonl" --output "$work/unfinished"
[ ! -e "$work/unfinished/adapter_config.json" ] || fail "an adapter was written"
expect_error 1 'bad.jsonl: line 21: "output" is missing' "${train[@]}" --data "$work/bad.jsonl" --output "$work/never"

many=("${base[@]}" --data "$source_dir/examples/data/instructions_train.json" --max-examples 200 --eval-fraction 0.2)
expect_code 0 "generation" "${many[@]}" --epochs 4 --learning-rate 1e-2 --positions f4+l4 --tie all --eval-every 10 --eval-generation exact_match \
  --eval-max-new-tokens 8 --metric-for-best exact_match --output "$work/best" --metrics "$work/best.jsonl"
python3 - "$work/best.jsonl" "$work/out" <<'PY' || fail "evaluation by generation"
import json, sys
evaluations = [o for o in map(json.loads, open(sys.argv[1])) if "eval_exact_match" in o]
result = json.loads(open(sys.argv[2]).read())
assert [o["step"] for o in evaluations] == [10, 20, 30, 40, 50, 60, 70, 80], evaluations
best = max(evaluations, key=lambda o: (o["eval_exact_match"], -o["step"]))
assert (result["best_step"], result["eval_exact_match"], result["eval_loss"]) == (best["step"], best["eval_exact_match"], best["eval_loss"]), (result, best)
print("exact match:", [o["eval_exact_match"] for o in evaluations])
PY
# A rate of 0 never gets better after the first evaluation.
expect_code 0 "patience" "${many[@]}" --epochs 9 --learning-rate 0 --eval-every 5 --metric-for-best loss --patience 3 --output "$work/patient"
[ "$(json "$work/out" '[o["steps"], o["best_step"]]')" = "[20, 5]" ] || fail "patience: $(cat "$work/out")"
expect_error 1 "needs --eval-data or --eval-fraction" "${train[@]}" --data "$work/a.json" --metric-for-best loss --output "$work/never"
expect_error 1 "--metric-for-best rouge: expected one of [loss]" "${train[@]}" --data "$work/a.json" --eval-fraction 0.2 --metric-for-best rouge --output "$work/never"
expect_error 1 "--patience needs --metric-for-best" "${train[@]}" --data "$work/a.json" --patience 2 --output "$work/never"

# Deterministic mode changes nothing where every operation is so already, as on a CPU with one thread.
expect_code 0 "--deterministic" "${train[@]}" --data "$work/both.jsonl" --deterministic --output "$work/deterministic"
same one deterministic
[ ! -e "$work/never" ] || fail "a refused command left an output folder"
