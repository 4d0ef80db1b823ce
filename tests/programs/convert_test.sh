#!/usr/bin/env bash
# convert goes both ways: pyreft's own folders give pyreft's logits here, what is written for pyreft gives the same logits
# there, and a dump is where the peers' reft-train starts. What a format cannot hold is said, bad input is refused.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
convert=$bin/convert golden=$source_dir/tests/golden/pyreft here=$(dirname "${BASH_SOURCE[0]}")
[ -x "$convert" ] || fail "$convert is not built"
forms=(loreft consreft lobireft ortho_direft noreft direft)
tokens=1,7,30,2,19,38,4,11,25 positions=f2+l2

# pyreft to reft and back, and a dump of each.
for form in "${forms[@]}"; do
  expect_code 0 "$form to reft" "$convert" "$golden/$form" "$work/$form.reft" --to reft --positions $positions --base "$golden/base"
  grep -q '^taken, as pyreft stores none: activation linear$' "$work/out" || fail "$form: nothing is said of what pyreft does not store"
  expect_code 0 "logits of $form" "$bin/activations" --model "$golden/base" --adapter "$work/$form.reft" --tokens $tokens --sites logits \
    --output "$work/$form.logits.safetensors"
  expect_code 0 "$form to pyreft" "$convert" "$work/$form.reft" "$work/$form.pyreft" --to pyreft
  grep -qxF "not in a pyreft folder: positions $positions, tied by group" "$work/out" || fail "$form: nothing is said of lost positions"
  expect_code 0 "dump of $form" "$convert" "$work/$form.reft" --dump "$work/$form.dump.safetensors"
  expect_code 0 "dump of pyreft's $form" "$convert" "$golden/$form" --dump "$work/$form.own.safetensors"
  cmp "$work/$form.dump.safetensors" "$work/$form.own.safetensors" || fail "$form: the two folders have different dumps"
done
[ ! -s "$work/err" ] || fail "convert writes to stderr: $(cat "$work/err")"

# A trainer's folder, and one of the oldest names.
expect_code 0 "a trainer's folder" "$convert" "$golden/loreft_trainer" --dump "$work/trainer.safetensors"
cmp "$work/trainer.safetensors" "$work/loreft.dump.safetensors" || fail "a trainer's folder is read differently"
mkdir "$work/old"
cp "$golden/loreft/config.json" "$work/old"
for layer in 0 1; do
  for k in 0 1; do
    cp "$golden/loreft/intkey_layer_${layer}_comp_block_output_unit_pos_nunit_1#$k.bin" \
      "$work/old/intkey_layer.$layer.repr.block_output.unit.pos.nunit.1#$k.bin"
  done
done
expect_code 0 "old names" "$convert" "$work/old" "$work/new" --to pyreft
[ "$(cd "$work/new" && ls)" = "$(cd "$golden/loreft" && ls)" ] || fail "old names do not become new ones"

# A trained head goes along.
cp -r "$golden/loreft" "$work/head"
cp "$golden/classifier/pytorch_model.bin" "$work/head"
expect_code 0 "a trained head" "$convert" "$work/head" "$work/head.pyreft" --to pyreft

# What neither format holds is said where it is given.
expect_code 0 "given for nothing" "$convert" "$golden/loreft" "$work/said" --to pyreft --positions f2+l2 --tie group --activation relu
for given in "positions f2+l2" "tie group" "activation relu"; do
  grep -qxF "given, but not stored: $given" "$work/out" || fail "nothing is said of $given"
done

# Refusals; nothing is written.
expect_error 1 "a loreft without activation, got relu" "$convert" "$golden/loreft" "$work/x" --to easysteer --activation relu
expect_error 2 "either --to with an output folder, or --dump" "$convert" "$golden/loreft"
expect_error 2 "--to" "$convert" "$golden/loreft" --to pyreft
expect_error 2 "excludes" "$convert" "$golden/loreft" "$work/x" --to pyreft --dump "$work/y"
expect_error 2 "expected f<n>, l<n>" "$convert" "$golden/loreft" "$work/x" --to reft --positions q
expect_error 1 "give --base" "$convert" "$golden/loreft" "$work/x" --to reft --positions $positions
expect_error 1 "give the positions" "$convert" "$golden/loreft" "$work/x" --to reft --base "$golden/base"
expect_error 1 "has 2 interventions, but positions f2 tied by group want 1" \
  "$convert" "$golden/loreft" "$work/x" --to reft --positions f2 --base "$golden/base"
expect_error 1 "positions f1 was given, but the adapter has $positions" "$convert" "$work/loreft.reft" "$work/x" --to pyreft --positions f1
expect_error 1 "is not empty" "$convert" "$golden/loreft" "$work/new" --to pyreft
expect_error 1 "adapter_config.json" "$convert" "$golden/base" "$work/x" --to pyreft
[ ! -e "$work/x" ] && [ ! -e "$work/y" ] || fail "a refusal leaves something behind"
expect_code 0 "over an old folder" "$convert" "$golden/consreft" "$work/new" --to pyreft --overwrite
head -c 700 "$golden/loreft_trainer/intkey_layer_0_comp_block_output_unit_pos_nunit_1#0.bin" \
  >"$work/new/intkey_layer_0_comp_block_output_unit_pos_nunit_1#0.bin"
expect_error 1 "it is truncated" "$convert" "$work/new" --dump "$work/y"

# An adapter that pyreft published: each layer has one intervention for the first positions and one for the last.
published=$shared/assets/reft_checkpoints/llama32_1b_l8_l15_r2
need "$published" "$shared/peers/pyreft_ref.py"
mkdir "$work/llama32_1b"
python3 - "$golden/base/config.json" "$work/llama32_1b/config.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
config.update(num_hidden_layers=16, hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=8, head_dim=64)
json.dump(config, open(sys.argv[2], "w"))
PY
expect_code 0 "a published adapter" "$convert" "$published" "$work/published" --to reft --positions f1+l1 --base "$work/llama32_1b"
python3 - "$work/published/adapter_config.json" <<'PY' || fail "the published adapter's groups are lost"
import json, sys
rows = json.load(open(sys.argv[1]))["interventions"]
found = [(row["sites"], row["positions"], row["position_expression"], row["tie"]) for row in rows]
assert found == [([f"layers.{layer}.block_output"], part, "f1+l1", "group") for layer in (8, 15) for part in ("f1", "l1")], found
PY
# And the values of each number stay its own.
expect_code 0 "its dump" "$convert" "$work/published" --dump "$work/published.safetensors"
expect_code 0 "pyreft's dump" "$convert" "$published" --dump "$work/published.own.safetensors"
cmp "$work/published.safetensors" "$work/published.own.safetensors" || fail "the published adapter's numbers are mixed up"

python=$(pyreft_python) || { [ -s "$work/no-peers" ] && skip "no pyreft: $(cat "$work/no-peers")"; fail "no peers"; }
"$python" "$here/convert_peer.py" "$work" "$golden" "${forms[@]}" || fail "pyreft says something else"

# The peers' training starts at a dump: its own record of the start is the dump. (One form for each set of matrices.)
echo '[{"input_ids":[[1,7,30,2]],"attention_mask":[[1,1,1,1]],"labels":[[-100,-100,30,2]],"intervention_locations":[[[0],[0],[1],[1]]]}]' >"$work/batches.json"
for form in loreft consreft noreft; do
  bias=()
  [ "$form" != noreft ] || bias=(--add-bias)
  "$python" "$shared/peers/pyreft_ref.py" "${bias[@]}" reft-train --model "$golden/base" --batches "$work/batches.json" --intervention "$form" \
    --rank 3 --positions $positions --steps 1 --batch 1 --init "$work/$form.dump.safetensors" --out "$work/$form.train" >"$work/train.log" 2>&1 ||
    { tail -n 3 "$work/train.log" >&2; fail "$form: reft-train cannot start at the dump"; }
  "$python" "$here/convert_peer.py" --close "$work/$form.train/init.safetensors" "$work/$form.dump.safetensors" 1e-6 || fail "$form: reft-train starts elsewhere"
done
