#!/usr/bin/env bash
# generate answers a ragged batch as transformers answers each prompt alone: greedy, drawn by every rule with the same seed,
# by beams, with an adapter and without; log-probabilities and scores of given continuations too.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories" "$alpaca" "$shared/peers/requirements.txt"
here=$(dirname "${BASH_SOURCE[0]}")

python=$(peer_python) || { [ -s "$work/no-peers" ] && skip "no transformers: $(cat "$work/no-peers")"; fail "no peers"; }
"$bin/alpaca_sft" --quiet --threads 1 --model "$stories" --data "$alpaca" --max-examples 40 --max-steps 5 --max-length 96 --learning-rate 5e-2 \
  --rank 2 --positions f1+l1 --output "$work/adapter" >"$work/out" 2>"$work/err" || fail "no adapter: $(tail -n 1 "$work/err")"
# Stories are longer than the test, so common tokens are made to end an answer: the full stop and "was".
mkdir "$work/model"
ln -s "$stories"/* "$work/model/"
rm "$work/model/config.json"
python3 - "$stories" "$work/model/config.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1] + "/config.json"))
vocabulary = json.load(open(sys.argv[1] + "/tokenizer.json"))["model"]["vocab"]
config["eos_token_id"] = [vocabulary[token] for token in (".", "was▁")]
json.dump(config, open(sys.argv[2], "w"))
PY
"$python" "$here/generation_peer.py" make "$work" "$shared"

answer() {
  local name=$1
  shift
  "$bin/generate" --threads 1 --dtype float32 --model "$work/model" --prompt-file "$work/prompts.jsonl" --json "$@" >"$work/$name.jsonl"
}
while IFS=$'\t' read -r name flags; do
  # shellcheck disable=SC2086  # flags are words
  answer "$name" $flags
done <"$work/cases"
"$python" "$here/generation_peer.py" compare "$work" || fail "transformers says something else"
# A rule that differs by a hair must be seen.
answer top_p --temperature 1.2 --top-p 0.8 --max-new-tokens 40
! "$python" "$here/generation_peer.py" compare "$work" >/dev/null || fail "a wrong top-p went unseen"
