#!/usr/bin/env bash
# Adapters for the adapters package, EasySteer and llama.cpp, each read by the other side's own code, and theirs read here.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
convert=$bin/convert base=$source_dir/tests/golden/pyreft/base peer=$(dirname "${BASH_SOURCE[0]}")/export_peer.py tokens=1,7,30,2,19,38,4,11,25
[ -x "$convert" ] || fail "$convert is not built"
need "$shared/peers/requirements.txt"
python=$(pyreft_python) || { [ -s "$work/no-peers" ] && skip "no adapters: $(cat "$work/no-peers")"; fail "no peers"; }
echo '{"input_ids":[1,7,30,2,19,38,4],"labels":[-100,-100,-100,-100,19,38,4],"prompt_length":4}' >"$work/rows.jsonl"

# adapter FORM FLAG...: an adapter of two layers, somewhat trained.
adapter() {
  expect_code 0 "an adapter of $1" "$bin/alpaca_sft" --model "$base" --data "$work/rows.jsonl" --intervention "$1" --rank 3 --epochs 5 \
    --learning-rate 1e-2 --output "$work/$1.own" --quiet "${@:2}"
}
logits() { expect_code 0 "logits of $1" "$bin/activations" --model "$base" --adapter "$1" --tokens $tokens --sites logits --output "$2"; }

mkdir "$work/theirs"
"$python" "$peer" adapters-write "$base" "$work/theirs" $tokens 2>"$work/peer.log" || { tail "$work/peer.log"; fail "adapters cannot write"; }
for form in loreft noreft direft; do
  adapter $form --positions f2+l1
  logits "$work/$form.own" "$work/$form.logits.safetensors"
  expect_code 0 "$form for adapters" "$convert" "$work/$form.own" "$work/$form.hub" --to adapterhub --base "$base"
  grep -q 'counts suffix positions from the end of the whole sequence' "$work/out" || fail "$form: nothing is said of suffixes"
  "$python" "$peer" adapters-read "$base" "$work/$form.hub" "$work/$form.logits.safetensors" $tokens 2>"$work/peer.log" ||
    { tail "$work/peer.log"; fail "$form: adapters reads something else"; }

  type=()
  [ $form = loreft ] || type=(--intervention $form)
  expect_code 0 "$form of adapters" "$convert" "$work/theirs/$form" "$work/$form.back" --to reft --base "$base" "${type[@]}"
  logits "$work/$form.back" "$work/$form.back.safetensors"
  "$python" "$(dirname "$peer")/convert_peer.py" --close "$work/$form.back.safetensors" "$work/theirs/$form.logits.safetensors" 1e-5 ||
    fail "$form: an adapter of adapters is read as something else"
done
expect_code 0 "read without converting" "$bin/activations" --model "$base" --adapter "$work/theirs/noreft" --intervention noreft --tokens $tokens \
  --sites logits --output "$work/direct.safetensors"
cmp "$work/direct.safetensors" "$work/noreft.back.safetensors" || fail "activations reads an adapter of adapters as something else"
expect_error 1 "noreft or direft, which it does not say: name it" "$convert" "$work/theirs/direft" "$work/x" --to reft --base "$base"

adapter lobireft --layers 1 --positions all --phase every
expect_code 0 "control vectors" "$convert" "$work/lobireft.own" "$work/v.gguf" --to gguf --base "$base"
expect_code 0 "their dump" "$convert" "$work/lobireft.own" --dump "$work/lobireft.dump.safetensors"
"$python" "$peer" gguf-read "$work/v.gguf" "$work/lobireft.dump.safetensors" || fail "gguf reads something else"
"$python" "$peer" gguf-write "$work/theirs.gguf" || fail "gguf cannot write"
expect_code 0 "their control vectors" "$convert" "$work/theirs.gguf" "$work/vectors.own" --to reft --base "$base"
expect_code 0 "the dump of those" "$convert" "$work/vectors.own" --dump "$work/vectors.dump.safetensors"
"$python" "$peer" gguf-equal "$work/theirs.gguf" "$work/vectors.dump.safetensors" || fail "control vectors are read as something else"
expect_error 1 "the file exists" "$convert" "$work/lobireft.own" "$work/v.gguf" --to gguf --base "$base"
expect_error 1 "expected lobireft or activation_addition at the block_output of layers from 1 on" "$convert" "$work/loreft.own" "$work/y.gguf" --to gguf --base "$base"
expect_error 1 "give --base" "$convert" "$work/loreft.own" "$work/x" --to adapterhub

expect_code 0 "for EasySteer" "$convert" "$work/loreft.own" "$work/steer" --to easysteer
expect_code 0 "its dump" "$convert" "$work/loreft.own" --dump "$work/loreft.dump.safetensors"
"$python" "$peer" easysteer "$work/steer" "$work/loreft.dump.safetensors" || fail "EasySteer would read something else"
expect_error 1 "expected loreft at block_output" "$convert" "$work/noreft.own" "$work/x" --to easysteer
[ ! -e "$work/x" ] && [ ! -e "$work/y.gguf" ] || fail "a refusal leaves something behind"
