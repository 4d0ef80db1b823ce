#!/usr/bin/env bash
# alpaca_sft under mpirun: two ranks train as one does with the same batches, write once, and do not wait for a dead one.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
command -v mpirun >/dev/null || skip "mpirun is missing"
ldd "$bin/alpaca_sft" | grep -q libmpi || skip "alpaca_sft was built without MPI"
ranks=(mpirun -n 2 --oversubscribe --bind-to none)
[ "$(id -u)" -ne 0 ] || ranks+=(--allow-run-as-root)
train=("$bin/alpaca_sft" --seed 3 --threads 1 --quiet)

expect_code 0 "one process" "${train[@]}" --batch-size 8 --max-steps 20 --output "$work/one" --metrics "$work/one.jsonl"
expect_code 0 "two ranks" "${ranks[@]}" "${train[@]}" --batch-size 8 --max-steps 20 --output "$work/two" --metrics "$work/two.jsonl"
[ "$(grep -c '^{' "$work/out")" -eq 1 ] || fail "two ranks printed $(grep -c '^{' "$work/out") result lines"
python3 - "$work/one.jsonl" "$work/two.jsonl" <<'PY' || fail "two ranks train otherwise than one"
import json, sys
one, two = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [row["step"] for row in one] == [row["step"] for row in two] == list(range(1, 21))
assert abs(one[0]["gradient_norm"] / two[0]["gradient_norm"] - 1) < 1e-6
assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two)) < 1e-5
PY

# A usage error is one line each rank agrees on: the first says it.
code=0
"${ranks[@]}" "${train[@]}" --rank 0 --output "$work/bad" >"$work/out" 2>"$work/err" || code=$?
[ "$code" -ne 0 ] && [ ! -e "$work/bad" ] || fail "--rank 0 under mpirun: exit code $code"

# Ranks with adapters of other sizes.
code=0
"${ranks[@]:0:1}" "${ranks[@]:3}" -n 1 "${train[@]}" --rank 2 --output "$work/other" : -n 1 "${train[@]}" --rank 4 --output "$work/other" >"$work/out" 2>"$work/err" || code=$?
[ "$code" -ne 0 ] && [ "$code" -lt 128 ] && grep -q "error: .*the ranks differ in" "$work/err" || { tail -n 5 "$work/err" >&2; fail "ranks that differ: exit code $code"; }

# A rank that no longer answers ends the others in time, with its reason, and the last checkpoint can be gone on from.
long=("${train[@]}" --batch-size 2 --max-steps 600 --checkpoint-every 5)
"${ranks[@]}" "${long[@]}" --rank-timeout 10 --output "$work/dead" --metrics "$work/dead.jsonl" >"$work/out" 2>"$work/err" &
run=$!
for ((i = 0; i < 300; ++i)); do [ -e "$work/dead/checkpoint.safetensors" ] && break; sleep 0.1; done
victim=$(pgrep -P $run -x alpaca_sft | tail -n 1) || true
kill -STOP "${victim:-none}" 2>/dev/null || { tail -n 5 "$work/err" >&2; fail "no rank runs that could be stopped, after $(wc -l <"$work/dead.jsonl") steps"; }
code=0
( sleep 120; kill -9 $run ) 2>/dev/null & watch=$!
wait $run || code=$?
kill $watch 2>/dev/null || true
[ "$code" -ne 0 ] && [ "$code" -ne 137 ] || fail "a rank that is stopped: exit code $code"
grep -q "error: .*did not answer within 10 s" "$work/err" || { tail -n 5 "$work/err" >&2; fail "the other rank does not say why it ends"; }
[ "$(wc -l <"$work/dead.jsonl")" -lt 600 ] || fail "the run was over before a rank could be stopped"
expect_code 0 "going on" "${long[@]}" --resume --output "$work/dead" --metrics "$work/dead.jsonl"
[ "$(python3 -c 'import json, sys; print([json.loads(l)["step"] for l in open(sys.argv[1])] == list(range(1, 601)))' "$work/dead.jsonl")" = True ] ||
  fail "a step is missing or there twice"
