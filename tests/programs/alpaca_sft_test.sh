#!/usr/bin/env bash
# alpaca_sft as a user runs it: training to the end, the adapter in use, stopping and resuming, starts, data formats.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories" "$alpaca"

# sft FLAGS...: stdout and stderr in $work/out and $work/err, as for every command here.
sft=("$bin/alpaca_sft" --threads 1 --model "$stories")
# A run of short steps over several epochs, with randomness in it: dropout and the order of rows.
short=("${sft[@]}" --data "$alpaca" --max-examples 96 --batch-size 8 --epochs 8 --max-length 96 --dropout 0.1 --rank 2)

# check_metrics FILE STEPS: every step once, in order, with its keys and finite values.
check_metrics() {
  python3 - "$@" <<'PY' || fail "the metrics file $1 is not as promised"
import json, math, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
steps = [line for line in lines if "eval_loss" not in line]
assert [line["step"] for line in steps] == list(range(1, int(sys.argv[2]) + 1)), [line["step"] for line in steps]
for line in steps:
    assert set(line) == {"step", "loss", "learning_rate", "gradient_norm", "tokens_per_second"}, line
    assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in line.values()), line
PY
}

# losses FILE: step and loss of every line, at full precision.
losses() { python3 -c 'import json, sys; [print(o["step"], o["loss"]) for o in map(json.loads, open(sys.argv[1]))]' "$1"; }

# check_result FILE: the last line of stdout is the one JSON object of a finished run.
check_result() {
  python3 - "$1" <<'PY' || fail "the result on stdout is not as promised"
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert len(lines) == 1, lines
result = json.loads(lines[0])
keys = ["train_loss", "eval_loss", "steps", "tokens", "tokens_per_second", "seconds", "trainable_parameters", "base_parameters",
        "peak_memory_bytes"]
assert list(result) == keys, list(result)
assert abs(result["tokens_per_second"] - result["tokens"] / result["seconds"]) <= 1e-6 * result["tokens_per_second"]
assert result["base_parameters"] == 656000 or 600000 < result["base_parameters"] < 700000, result
assert 10**7 < result["peak_memory_bytes"] < 10**11, result
PY
}

# lines_of FILE: how many, none if it is not there yet.
lines_of() { { [ -e "$1" ] && wc -l <"$1"; } || echo 0; }

# run_and_signal SIGNAL STEPS OUTPUT METRICS FLAGS...: sends it after that many steps; the exit code is in $code.
run_and_signal() {
  local signal=$1 steps=$2 output=$3 metrics=$4 pid
  shift 4
  rm -f "$metrics"
  "${short[@]}" --output "$output" --metrics "$metrics" "$@" >"$work/out" 2>"$work/err" &
  pid=$!
  while kill -0 $pid 2>/dev/null && [ "$(lines_of "$metrics")" -lt "$steps" ]; do sleep 0.01; done
  kill "-$signal" $pid
  code=0
  wait $pid 2>/dev/null || code=$?
}

the_promise() {
  local hash metrics=$work/metrics.jsonl
  hash=$(cd "$stories" && sha256sum -- *)
  expect_code 0 "training" "${sft[@]}" --data "$alpaca" --layers all --rank 4 --positions f1+l1 --epochs 3 \
    --output "$work/adapter" --metrics "$metrics"
  check_result "$work/out"
  check_metrics "$metrics" "$(json "$work/out" 'o["steps"]')"
  python3 - "$metrics" "$work/out" <<'PY' || fail "the loss did not fall"
import json, sys
losses = [json.loads(line)["loss"] for line in open(sys.argv[1])]
result = json.loads(open(sys.argv[2]).read())
tenth = len(losses) // 10
first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
print(f"{len(losses)} steps in {result['seconds']:.0f} s, {result['tokens_per_second']:.0f} tokens/s: "
      f"loss {first:.4f} in the first tenth, {last:.4f} in the last")
assert len(losses) == 375, len(losses)
assert last < first - 0.1
epoch = losses[-len(losses) // 3:]
assert abs(result["train_loss"] - sum(epoch) / len(epoch)) < 1e-9, (result["train_loss"], sum(epoch) / len(epoch))
PY
  [ "$(cd "$stories" && sha256sum -- *)" = "$hash" ] || fail "the base's files changed"
  [ "$(ls "$work/adapter")" = $'adapter_config.json\nadapter_model.safetensors' ] || fail "the output holds: $(ls -A "$work/adapter")"
}

the_adapter_is_used() {
  local prompt=(--model "$stories" --threads 1 --tokens 1,80,147,201,282,57) with=(--adapter "$work/adapter")
  for name in without with; do
    local flags=()
    [ $name = without ] || flags=("${with[@]}")
    expect_code 0 "activations" "$bin/activations" "${prompt[@]}" "${flags[@]}" --sites layers.0.block_output,logits --output "$work/$name.safetensors"
    expect_code 0 "generate" "$bin/generate" "${prompt[@]}" "${flags[@]}" --json --max-new-tokens 30
    json "$work/out" 'o["tokens"]' >"$work/$name.tokens"
  done
  ! cmp -s "$work/without.tokens" "$work/with.tokens" || fail "the adapter does not change what is generated"
  # f1+l1 edits the first and the last of the six rows of block 0, and no other.
  python3 - "$work/without.safetensors" "$work/with.safetensors" <<'PY' || fail "the adapter does not edit the rows it should"
import json, sys
def rows(path):
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + length])["layers.0.block_output"]
    begin, end = entry["data_offsets"]
    values, width = data[8 + length + begin:8 + length + end], 4 * entry["shape"][1]
    return [values[i * width:(i + 1) * width] for i in range(entry["shape"][0])]
changed = [i for i, (a, b) in enumerate(zip(rows(sys.argv[1]), rows(sys.argv[2]))) if a != b]
assert changed == [0, 5], changed
PY
  expect_code 0 "text" "$bin/generate" --model "$stories" --threads 1 "${with[@]}" --prompt "Once upon a time" --max-new-tokens 20
  [ -s "$work/out" ] || fail "no text was generated"
}

stopping_and_resuming() {
  local metrics=$work/metrics_short.jsonl code steps
  expect_code 0 "the uninterrupted run" "${short[@]}" --output "$work/whole" --metrics "$work/metrics_whole.jsonl"
  steps=$(json "$work/out" 'o["steps"]')
  [ "$steps" -ge 40 ] || fail "$steps steps are too few to interrupt"
  check_metrics "$work/metrics_whole.jsonl" "$steps"
  losses "$work/metrics_whole.jsonl" >"$work/losses_whole"

  # same_as_whole FOLDER: nothing tells the two runs apart.
  same_as_whole() {
    cmp "$work/whole/adapter_model.safetensors" "$1/adapter_model.safetensors" || fail "$2: the adapter differs"
    cmp "$work/whole/adapter_config.json" "$1/adapter_config.json" || fail "$2: the config differs"
    check_metrics "$metrics" "$steps"
    cmp <(losses "$metrics") "$work/losses_whole" || fail "$2: the losses differ"
    [ ! -e "$1/checkpoint.safetensors" ] || fail "$2: the checkpoint was left behind"
  }

  # went_on STEPS METRICS_BEFORE: those steps were not done again; a second time they would have taken another time.
  went_on() {
    [ "$1" -ge 3 ] || fail "only $1 steps were done before the interruption"
    cmp <(head -n "$1" "$2") <(head -n "$1" "$metrics") || fail "the run began anew instead of going on"
  }

  # Ctrl-C, then --resume.
  run_and_signal INT 5 "$work/stopped" "$metrics"
  [ $code -eq 130 ] || fail "ctrl-C: exit code $code"
  [ ! -s "$work/out" ] || fail "a stopped run printed a result"
  [ "$(ls "$work/stopped")" = checkpoint.safetensors ] || fail "ctrl-C left: $(ls -A "$work/stopped")"
  [ "$(lines_of "$metrics")" -lt "$steps" ] || fail "the run was not interrupted"
  local before
  before=$(lines_of "$metrics")
  cp "$metrics" "$work/metrics_before"
  expect_error 1 "not empty" "${short[@]}" --output "$work/stopped"
  expect_error 1 "cannot resume: accumulate was 1, now it is 2" "${short[@]}" --output "$work/stopped" --resume --accumulate 2
  expect_code 0 "resuming" "${short[@]}" --output "$work/stopped" --metrics "$metrics" --resume
  [ "$(json "$work/out" 'o["steps"]')" -eq "$steps" ] || fail "the resumed run does not count its steps"
  same_as_whole "$work/stopped" "after ctrl-C at step $before"
  went_on "$before" "$work/metrics_before"

  # Without a checkpoint --resume starts anew, so that one command line serves a restart loop.
  expect_code 0 "resuming nothing" "${short[@]}" --output "$work/anew" --metrics "$metrics" --resume
  same_as_whole "$work/anew" "resumed from nothing"

  # kill -9 between checkpoints, with what a write in progress may leave behind. Steps after the checkpoint are done again.
  run_and_signal KILL 8 "$work/killed" "$metrics" --checkpoint-every 3
  [ $code -eq 137 ] || fail "kill -9: exit code $code"
  [ -e "$work/killed/checkpoint.safetensors" ] || fail "no checkpoint before the kill"
  [ ! -e "$work/killed/adapter_config.json" ] || fail "the run was not interrupted"
  head -c 1000 "$work/killed/checkpoint.safetensors" >"$work/killed/.checkpoint.safetensors.1.0.tmp"
  cp "$metrics" "$work/metrics_before"
  printf '{"step":99,"lo' >>"$metrics"
  expect_code 0 "resuming after kill -9" "${short[@]}" --output "$work/killed" --metrics "$metrics" --checkpoint-every 3 --resume
  same_as_whole "$work/killed" "after kill -9"
  went_on 6 "$work/metrics_before"

  # A damaged checkpoint is refused, not used.
  run_and_signal INT 3 "$work/damaged" "$metrics"
  printf 'x' | dd of="$work/damaged/checkpoint.safetensors" bs=1 seek=4000 conv=notrunc status=none
  cp "$work/damaged/checkpoint.safetensors" "$work/damaged_copy"
  expect_error 1 "checkpoint.safetensors" "${short[@]}" --output "$work/damaged" --resume
  cmp -s "$work/damaged/checkpoint.safetensors" "$work/damaged_copy" || fail "a refused checkpoint was written to"
}

starts() {
  local few=("${sft[@]}" --data "$alpaca" --max-examples 16 --max-length 96 --no-shuffle)
  expect_code 0 "--max-steps 0" "${few[@]}" --max-steps 0 --output "$work/start" --rank 3 --positions f2+l2
  check_result_of_nothing "$work/out"
  expect_code 0 "generate with a start" "$bin/generate" --model "$stories" --threads 1 --adapter "$work/start" --tokens 1,2,3 --max-new-tokens 2
  # The same seed gives the same start; another one another.
  expect_code 0 "the start again" "${few[@]}" --max-steps 0 --output "$work/start_again" --rank 3 --positions f2+l2
  cmp "$work/start/adapter_model.safetensors" "$work/start_again/adapter_model.safetensors" || fail "the same seed, another start"
  expect_code 0 "another start" "${few[@]}" --max-steps 0 --output "$work/start_other" --rank 3 --positions f2+l2 --seed 7
  ! cmp -s "$work/start/adapter_model.safetensors" "$work/start_other/adapter_model.safetensors" || fail "the seed changes nothing"

  # Continuing takes everything from the folder; untrained it is written back as it was.
  expect_code 0 "--init-adapter" "${few[@]}" --init-adapter "$work/start" --max-steps 0 --output "$work/start_copy"
  cmp "$work/start/adapter_model.safetensors" "$work/start_copy/adapter_model.safetensors" || fail "--init-adapter changed the values"
  cmp "$work/start/adapter_config.json" "$work/start_copy/adapter_config.json" || fail "--init-adapter changed the configuration"
  expect_code 0 "agreeing flags" "${few[@]}" --init-adapter "$work/start" --rank 3 --layers all --positions f2+l2 --max-steps 0 --output "$work/agreed"
  expect_error 1 "--rank 4 contradicts" "${few[@]}" --init-adapter "$work/start" --rank 4 --output "$work/never"
  expect_error 1 "--layers 0 contradicts" "${few[@]}" --init-adapter "$work/start" --layers 0 --output "$work/never"
  expect_error 1 "--positions l1 contradicts" "${few[@]}" --init-adapter "$work/start" --positions l1 --output "$work/never"
  expect_error 1 "--intervention direft contradicts" "${few[@]}" --init-adapter "$work/start" --intervention direft --output "$work/never"

  expect_error 1 "--template none contradicts" "${few[@]}" --init-adapter "$work/start" --template none --output "$work/never"
  expect_code 0 "another wording" "${few[@]}" --max-steps 0 --template none --output "$work/plain"
  expect_code 0 "its wording is kept" "${few[@]}" --init-adapter "$work/plain" --max-steps 0 --output "$work/plain_copy"
  cmp "$work/plain/adapter_config.json" "$work/plain_copy/adapter_config.json" || fail "--init-adapter forgets the prompt template"

  # A folder of pyreft's trainer tells neither its class nor where dropout acts: the flags do.
  [ -x "$bin/convert" ] || fail "$bin/convert is not built"
  expect_code 0 "a consreft" "${few[@]}" --max-steps 0 --intervention consreft --positions f2+l2 --output "$work/cons"
  expect_code 0 "for pyreft" "$bin/convert" "$work/cons" "$work/cons.pyreft" --to pyreft
  rm "$work/cons.pyreft/config.json"
  expect_error 1 "say which, as in --intervention consreft" "${few[@]}" --init-adapter "$work/cons.pyreft" --positions f2+l2 --output "$work/never"
  expect_code 0 "a trainer's folder" "${few[@]}" --max-steps 0 --init-adapter "$work/cons.pyreft" --intervention consreft --positions f2+l2 \
    --dropout 0.1 --dropout-on edit --output "$work/cons_again"
  python3 - "$work/cons_again/adapter_config.json" <<'PY' || fail "--intervention and --dropout-on are lost"
import json, sys
rows = json.load(open(sys.argv[1]))["interventions"]
assert rows and all((row["type"], row["dropout"], row["dropout_on"]) == ("consreft", 0.1, "edit") for row in rows), rows
PY
  echo '[{"type":"loreft"}]' >"$work/list.json"
  expect_error 2 "--config" "${few[@]}" --init-adapter "$work/start" --config "$work/list.json" --output "$work/never"

  # Training goes on where it was: the second part begins with a lower loss than the first did.
  expect_code 0 "first part" "${few[@]}" --init-adapter "$work/start" --epochs 15 --learning-rate 1e-2 --output "$work/part1" --metrics "$work/part1.jsonl"
  expect_code 0 "second part" "${few[@]}" --init-adapter "$work/part1" --epochs 1 --output "$work/part2" --metrics "$work/part2.jsonl"
  python3 - <(losses "$work/part1.jsonl") <(losses "$work/part2.jsonl") <<'PY' || fail "--init-adapter does not go on from the adapter"
import sys
first, second = [float(open(path).readline().split()[1]) for path in sys.argv[1:]]
assert second < first - 0.05, (first, second)
PY
}

# A run without steps has a result without a loss.
check_result_of_nothing() {
  [ "$(json "$1" '[o["steps"], o["train_loss"], o["eval_loss"], o["tokens"]]')" = "[0, None, None, 0]" ] || fail "result: $(cat "$1")"
}

data_formats() {
  local few=("${sft[@]}" --epochs 2 --batch-size 2)
  cat >"$work/tokens.jsonl" <<'JSON'
{"input_ids":[1,80,147,201,282,57,313],"labels":[-100,-100,-100,-100,282,57,313],"prompt_length":4}
{"input_ids":[1,80,147],"labels":[-100,80,147],"prompt_length":0}

{"input_ids":[1,5,6,7],"labels":[-100,-100,-100,7],"prompt_length":4}
JSON
  expect_code 0 "tokens" "${few[@]}" --data "$work/tokens.jsonl" --output "$work/from_tokens"
  [ "$(json "$work/out" '[o["steps"], o["tokens"]]')" = "[4, 28]" ] || fail "tokens: $(cat "$work/out")"

  cat >"$work/pairs.jsonl" <<'JSON'
{"prompt":"Once upon a time","completion":" there was a cat."}
{"prompt":"The dog","completion":" ran."}
JSON
  expect_code 0 "pairs" "${few[@]}" --data "$work/pairs.jsonl" --output "$work/from_pairs" --quiet
  [ ! -s "$work/err" ] || fail "--quiet is not quiet: $(cat "$work/err")"
  # The same pairs, tokenized by our own tokenizer as the design says: prompt alone for its length, an end token behind.
  python3 - "$bin/tokenize" "$stories" "$work/pairs.jsonl" "$work/tokenized.jsonl" <<'PY'
import json, subprocess, sys
program, model, pairs, output = sys.argv[1:]
def ids(text):
    return json.loads(subprocess.run([program, "--model", model, "--text", text], check=True, capture_output=True, text=True).stdout)
with open(output, "w") as file:
    for pair in map(json.loads, open(pairs)):
        prompt, tokens = ids(pair["prompt"]), ids(pair["prompt"] + pair["completion"]) + [2]
        labels = [-100] * len(prompt) + tokens[len(prompt):]
        file.write(json.dumps({"input_ids": tokens, "labels": labels, "prompt_length": len(prompt)}) + "\n")
PY
  expect_code 0 "tokenized pairs" "${few[@]}" --data "$work/tokenized.jsonl" --output "$work/from_tokenized"
  cmp "$work/from_pairs/adapter_model.safetensors" "$work/from_tokenized/adapter_model.safetensors" ||
    fail "the same data as text and as tokens trains differently"

  # Evaluation, from a file and as a share.
  expect_code 0 "--eval-data" "${few[@]}" --data "$work/tokens.jsonl" --eval-data "$work/pairs.jsonl" --output "$work/evaluated" --metrics "$work/evaluated.jsonl"
  python3 - "$work/evaluated.jsonl" "$(json "$work/out" 'o["eval_loss"]')" <<'PY' || fail "evaluation"
import json, sys
found = [(o["step"], o["eval_loss"]) for o in map(json.loads, open(sys.argv[1])) if "eval_loss" in o]
assert [step for step, _ in found] == [2, 4] and found[-1][1] == float(sys.argv[2]), found
PY
  expect_code 0 "--eval-fraction" "${few[@]}" --data "$alpaca" --max-examples 20 --eval-fraction 0.2 --max-length 160 --output "$work/share"
  [ "$(json "$work/out" '[o["steps"], o["eval_loss"] > 1]')" = "[16, True]" ] || fail "--eval-fraction: $(cat "$work/out")"
  grep -q '^warning: .* cut at 160 tokens' "$work/err" || fail "no warning of cut examples"
}

config_file() {
  cat >"$work/interventions.json" <<'JSON'
[{"type": "direft", "layers": [0], "rank": 2, "positions": "l1"},
 {"type": "loreft", "layers": [1], "rank": 5, "positions": "f2+l2", "tie": "all", "component": "mlp_output"}]
JSON
  local few=("${sft[@]}" --data "$alpaca" --max-examples 8 --max-length 128 --epochs 1)
  expect_code 0 "--config" "${few[@]}" --config "$work/interventions.json" --output "$work/mixed"
  python3 - "$work/mixed/adapter_config.json" <<'PY' || fail "--config was not followed"
import json, sys
config = json.load(open(sys.argv[1]))
found = [(o["type"], o["rank"], o["sites"], o["position_expression"], o["tie"]) for o in config["interventions"]]
assert found == [("direft", 2, ["layers.0.block_output"], "l1", found[0][4]),
                 ("loreft", 5, ["layers.1.mlp_output"], "f2+l2", "all")], found
assert config["prompt_template"] == "alpaca" and config["base_model"]["num_layers"] == 2, config
PY
  expect_error 1 "--rank is given too" "${few[@]}" --config "$work/interventions.json" --rank 2 --output "$work/never"
  sed 's/"rank": 5/"ranck": 5/' "$work/interventions.json" >"$work/typo.json"
  expect_error 1 "entry 1" "${few[@]}" --config "$work/typo.json" --output "$work/never"
  sed 's/\[1\]/[2]/' "$work/interventions.json" >"$work/far.json"
  expect_error 1 "entry 1" "${few[@]}" --config "$work/far.json" --output "$work/never"
}

# What is computed once, or twice, changes nothing but the time: blocks below the edit of the last one's output, tokens before
# the last of a prompt, activations that are not kept.
same_losses() {
  local name way
  train_way() {
    name=$1
    shift
    expect_code 0 "$name" "${sft[@]}" --data "$alpaca" --max-examples 32 --max-length 96 --epochs 2 --output "$work/way_$name" --metrics "$work/$name.jsonl" "$@"
  }
  for way in auto off; do
    train_way trunk_$way --layers 1 --trunk-cache $way
    train_way prefix_$way --layers all --positions l1 --trunk-cache $way
  done
  train_way prefix_checkpointed --layers all --positions l1 --trunk-cache off --activation-checkpointing
  python3 - "$work" <<'PY' || fail "what is cached or computed again changes the losses"
import json, sys
def losses(name):
    return [o["loss"] for o in map(json.loads, open(f"{sys.argv[1]}/{name}.jsonl")) if "loss" in o]
for name, other in (("trunk_off", "trunk_auto"), ("prefix_off", "prefix_auto"), ("prefix_off", "prefix_checkpointed")):
    a, b = losses(name), losses(other)
    assert len(a) == len(b) >= 4, (name, a, b)
    assert max(abs(x - y) for x, y in zip(a, b)) < 1e-5, (name, a, b)
PY
}

# A base in 8 bits learns what the base does, within its rounding; in 4 bits the losses are others.
quantized() {
  local kind
  for kind in none int8 nf4; do
    expect_code 0 "--quantize $kind" "${sft[@]}" --data "$alpaca" --max-examples 32 --max-length 96 --epochs 2 --quantize $kind \
      --output "$work/bits_$kind" --metrics "$work/bits_$kind.jsonl"
  done
  python3 - "$work" <<'PY' || fail "losses over a quantized base"
import json, sys
none, int8, nf4 = ([o["loss"] for o in map(json.loads, open(f"{sys.argv[1]}/bits_{kind}.jsonl")) if "loss" in o] for kind in ("none", "int8", "nf4"))
assert max(abs(a - b) for a, b in zip(none, int8)) < 0.05, (none, int8)
assert 0 < max(abs(a - b) for a, b in zip(none, nf4)) < 0.5, (none, nf4)
PY
  expect_error 2 "--quantize" "${sft[@]}" --data "$alpaca" --quantize int4 --output "$work/never"
}

the_promise
the_adapter_is_used
same_losses
quantized
stopping_and_resuming
starts
data_formats
config_file
[ ! -e "$work/never" ] || fail "a refused command left an output folder"
