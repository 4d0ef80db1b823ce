#!/usr/bin/env bash
# --tensorboard: the tensorboard package reads every step once, a stopped and resumed run's too, with the numbers of --metrics.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
python=$(package_python tensorboard) || skip "tensorboard cannot be installed: $(cat "$work/no-peers")"

train=("$bin/alpaca_sft" --threads 1 --quiet --model "$source_dir/examples/tiny_model" --data "$source_dir/examples/data/instructions_train.json"
  --max-examples 120 --eval-fraction 0.2 --batch-size 4 --epochs 4 --output "$work/adapter" --metrics "$work/metrics.jsonl" --tensorboard "$work/logs")

lines() { { [ -e "$work/metrics.jsonl" ] && wc -l <"$work/metrics.jsonl"; } || echo 0; }
"${train[@]}" >"$work/out" 2>"$work/err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ "$(lines)" -lt 30 ]; do sleep 0.01; done
kill -INT $pid
code=0
wait $pid || code=$?
[ $code -eq 130 ] || fail "the run was not interrupted: exit code $code"
expect_error 1 "--tensorboard $work/logs: the folder holds event files" "${train[@]:0:${#train[@]}-6}" --output "$work/never" --tensorboard "$work/logs"
expect_code 0 "resuming" "${train[@]}" --resume
[ "$(find "$work/logs" -name 'events.out.tfevents.*' | wc -l)" -eq 2 ] || fail "the folder holds: $(ls "$work/logs")"

"$python" - "$work/logs" "$work/metrics.jsonl" >"$work/read" 2>"$work/err" <<'PY' || fail "tensorboard does not read the run: $(tail -n 3 "$work/err")"
import json, struct, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
lines = [json.loads(line) for line in open(sys.argv[2])]
float32 = lambda value: struct.unpack("f", struct.pack("f", value))[0]
def expected(key):
    return [(line["step"], float32(line[key])) for line in lines if key in line]
tags = {"train/loss": "loss", "train/learning_rate": "learning_rate", "train/gradient_norm": "gradient_norm",
        "train/tokens_per_second": "tokens_per_second", "eval/loss": "eval_loss"}
assert sorted(events.Tags()["scalars"]) == sorted([*tags, "train/epoch"]), events.Tags()
for tag, key in tags.items():
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert found == expected(key), (tag, found[:5], expected(key)[:5])
times = [event.wall_time for event in events.Scalars("train/loss")]
assert times == sorted(times) and times[0] > 1.7e9, times[:3]
print(len(expected("loss")), "steps and", len(expected("eval_loss")), "evaluations")
PY
cat "$work/read"
[ "$(cut -d' ' -f1 "$work/read")" -eq 96 ] || fail "expected 96 steps"
