#!/usr/bin/env bash
# activations and generate give what transformers gives: on a trained model and on random ones of every shape and switch
# that a Llama has. In float32 every site; in bfloat16 no more error than transformers' own; greedy continuations.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories" "$shared/peers/pyreft_ref.py" "$shared/peers/requirements.txt"
here=$(dirname "${BASH_SOURCE[0]}")

python=$(peer_python) || { [ -s "$work/no-peers" ] && skip "no transformers: $(cat "$work/no-peers")"; fail "no peers"; }
"$python" "$here/transformers_peer.py" make "$work" "$shared"

# ours CASE: what compare reads.
ours() {
  local case=$work/$1 dtype=float32 sites
  [ "$1" != stored_float16 ] || dtype=auto  # which must become float32 by itself
  sites=$("$bin/activations" --model "$case/model" --list-sites | cut -d' ' -f1 | paste -sd,)
  local activations=("$bin/activations" --threads 1 --model "$case/model")
  "${activations[@]}" --dtype $dtype --tokens "$(<"$case/prompt")" --sites "$sites" --output "$case/ours.safetensors"
  "${activations[@]}" --dtype bfloat16 --tokens "$(<"$case/prompt")" --sites "$sites" --output "$case/ours_bfloat16.safetensors"
  "${activations[@]}" --dtype $dtype --tokens "$(<"$case/continued")" --sites logits --output "$case/ours_forced.safetensors"
  local generate=("$bin/generate" --threads 1 --dtype $dtype --tokens "$(<"$case/begin")" --json --max-new-tokens 200)
  "${generate[@]}" --model "$case/open" >"$case/ours.json"
  "${generate[@]}" --model "$case/model" >"$case/ours_stopped.json"
}

cases=$(cd "$work" && for folder in */model; do dirname "$folder"; done)
[ "$(wc -w <<<"$cases")" -ge 12 ] || fail "expected 12 models or more, got: $cases"
for case in $cases; do ours "$case" >/dev/null; done
# shellcheck disable=SC2086  # one word a case
"$python" "$here/transformers_peer.py" compare "$work" $cases || fail "transformers says something else"

# The newer place of rotary settings means the same.
python3 - "$work/rope_llama3/model/config.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
config["rope_parameters"] = {**config.pop("rope_scaling"), "rope_theta": config.pop("rope_theta")}
json.dump(config, open(sys.argv[1], "w"))
PY
rm "$work/rope_llama3/ours.safetensors"
ours rope_llama3 >/dev/null
"$python" "$here/transformers_peer.py" compare "$work" rope_llama3 >/dev/null || fail "rope_parameters is read differently"

# A model that differs by a hair must be seen.
sed -i 's/"rope_theta": 10000.0/"rope_theta": 10010.0/' "$work/grouped_heads/model/config.json"
ours grouped_heads >/dev/null
! "$python" "$here/transformers_peer.py" compare "$work" grouped_heads >/dev/null || fail "a wrong rope_theta went unseen"
