#!/usr/bin/env bash
# alpaca_sft as `torchrun --no-python` starts it, known by the environment: two ranks train as one does with the same batches, and
# end where one is missing, has other data or no longer answers.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
train=("$bin/alpaca_sft" --model "$source_dir/examples/tiny_model" --data "$source_dir/examples/data/instructions_train.json"
  --dtype float32 --max-examples 200 --batch-size 8 --learning-rate 1e-2 --seed 3 --threads 1 --quiet)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')

as_rank=(env WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT="$port")
first=("${as_rank[@]}" RANK=0 LOCAL_RANK=0) second=("${as_rank[@]}" RANK=1 LOCAL_RANK=1)

expect_code 0 "one process" "${train[@]}" --max-steps 20 --output "$work/one" --metrics "$work/one.jsonl"
two=("${train[@]}" --max-steps 20 --output "$work/two" --metrics "$work/two.jsonl")
"${second[@]}" "${two[@]}" >"$work/second" 2>&1 & other=$!
expect_code 0 "the first rank" "${first[@]}" "${two[@]}"
wait $other || { cat "$work/second" >&2; fail "the second rank"; }
[ ! -s "$work/second" ] || { cat "$work/second" >&2; fail "the second rank speaks"; }
python3 - "$work/one.jsonl" "$work/two.jsonl" <<'PY' || fail "two ranks train otherwise than one"
import json, sys
one, two = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [row["step"] for row in one] == [row["step"] for row in two] == list(range(1, 21))
assert abs(one[0]["gradient_norm"] / two[0]["gradient_norm"] - 1) < 1e-6
assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two)) < 1e-5
PY

# Ranks that differ where they must not: the first says so.
for difference in "--rank 2" "--positions l1" "--weight-decay 0.1"; do
  "${second[@]}" "${train[@]}" $difference --max-steps 20 --output "$work/other" --overwrite >/dev/null 2>"$work/second" & other=$!
  "${first[@]}" "${train[@]}" --max-steps 20 --output "$work/other" --overwrite >/dev/null 2>"$work/first" && fail "another $difference is taken"
  wait $other && fail "another $difference is taken by the second"
  grep -q "^error: .*the ranks differ in" "$work/first" || { cat "$work/first" >&2; fail "$difference: the first rank does not say so"; }
done

# One that no longer answers.
long=("${train[@]}" --max-steps 1000 --epochs 1000 --rank-timeout 3 --output "$work/dead" --metrics "$work/dead.jsonl")
"${first[@]}" "${long[@]}" >/dev/null 2>"$work/first" & one=$!
"${second[@]}" "${long[@]}" >/dev/null 2>"$work/second" & other=$!
for ((i = 0; i < 200; ++i)); do [ -s "$work/dead.jsonl" ] && break; sleep 0.1; done
kill -STOP $one  # it listens for both: the other's calls hang
code=0
wait $other || code=$?
kill -KILL $one
wait $one 2>/dev/null || true
[ "$code" -eq 1 ] || { tail -n 3 "$work/second" >&2; fail "exit code $code where the first rank was stopped"; }
grep -q "^error: .*rank 1 of 2: the others did not answer within 3 s" "$work/second" ||
  { cat "$work/second" >&2; fail "the second rank does not say why it ends"; }

# One that never comes, and environments that cannot be meant.
expect_error 1 "rank 1 of 2: no answer from 127.0.0.1:$port" "${second[@]}" "${train[@]}" --rank-timeout 1 --output "$work/alone"
expect_error 1 "RANK: expected 0 to 1, got 2" "${as_rank[@]}" RANK=2 "${train[@]}" --output "$work/alone"
expect_error 1 "RANK: expected 0 to 1, got nothing" env WORLD_SIZE=2 "${train[@]}" --output "$work/alone"
expect_error 1 "MASTER_PORT: expected 1 to 65535, got x" "${first[@]}" env MASTER_PORT=x "${train[@]}" --output "$work/alone"
[ ! -e "$work/alone" ] || fail "a rank alone left a folder"
