#!/usr/bin/env bash
# Every family gives what transformers gives: three random models each (shapes, tied and untied, in shards, windows,
# scaled rotations), all sites in float32, greedy continuations, the heads of encoders and classifiers.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$shared/peers/requirements.txt"
here=$(dirname "${BASH_SOURCE[0]}")

python=$(peer_python) || { [ -s "$work/no-peers" ] && skip "no transformers: $(cat "$work/no-peers")"; fail "no peers"; }

# The table in docs is that of the peer, which the comparison below goes by.
diff <("$python" "$here/families_peer.py" table) <(grep '^|' "$source_dir/docs/families.md") || fail "docs/families.md is not what families_peer.py table prints"

"$python" "$here/families_peer.py" make "$work"

# ours CASE: what compare reads.
ours() {
  local case=$work/$1 sites
  local activations=("$bin/activations" --threads 1 --dtype float32 --model "$case/model")
  "${activations[@]}" --list-sites >"$case/sites"
  sites=$(cut -d' ' -f1 "$case/sites" | paste -sd,)
  "${activations[@]}" --tokens "$(<"$case/prompt")" --sites "$sites" --output "$case/ours.safetensors" >"$case/written"
  # "site (T, width)" is what --list-sites says: "site width".
  diff <(sort "$case/sites") <(sed -E 's/ \([0-9]+, ([0-9]+)\)$/ \1/' "$case/written" | sort) || fail "$1: widths differ from those of --list-sites"
  [ -e "$case/begin" ] || return 0
  "${activations[@]}" --tokens "$(<"$case/continued")" --sites logits --output "$case/ours_forced.safetensors"
  # Without an end token every continuation has its full length.
  sed -i 's/"eos_token_id": [0-9]*,/"eos_token_id": null,/' "$case/model/config.json"
  "$bin/generate" --threads 1 --dtype float32 --tokens "$(<"$case/begin")" --json --max-new-tokens 100 --model "$case/model" >"$case/ours.json"
}

export -f ours fail
export bin work
xargs -n 1 <"$work/cases" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'ours {} >/dev/null'
"$python" "$here/families_peer.py" compare "$work" || fail "transformers says something else"

# A window of one token more must be seen.
sed -i 's/"sliding_window": 8/"sliding_window": 9/' "$work/mistral_0/model/config.json"
ours mistral_0 >/dev/null
! "$python" "$here/families_peer.py" compare "$work" mistral_0 >"$work/changed" || fail "a wrong window went unseen"
grep -q "attention_value_output is off by" "$work/changed" || fail "the wrong window is not where the difference begins: $(grep "^  " "$work/changed")"

# A model by its id, where the environment says the cache is; when it is not there, how it gets there.
snapshots=$work/home/hub/models--some--mistral/snapshots
mkdir -p "$snapshots"
ln -s "$work/mistral_1/model" "$snapshots/0123"
by_id=("$bin/activations" --model some/mistral --list-sites)
[ "$(HF_HOME=$work/home "${by_id[@]}" | wc -l)" = "$("$bin/activations" --model "$work/mistral_1/model" --list-sites | wc -l)" ] ||
  fail "a model is not found by its id"
expect_error 1 "hf download some/mistral" env HF_HOME="$work/nowhere" "${by_id[@]}"
