#!/usr/bin/env bash
# llama2.c models, in both file formats, and a Hugging Face folder give the outputs that were computed for them in float64.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
expected=$shared/assets/expected
need "$expected" "$models"
peer=$(dirname "${BASH_SOURCE[0]}")/llama2c_peer.py

python3 "$peer" "$bin" "$models/stories260K/stories260K.bin" "$expected/stories260K.json" || fail "legacy format"
python3 "$peer" "$bin" "$models/stories260K/stories260K_v1.bin" "$expected/stories260K.json" || fail "format v1"
python3 "$peer" "$bin" "$models/babyllama_tok105/model5000.bin" "$expected/babyllama_tok105.json" || fail "babyllama"
python3 "$peer" "$bin" "$stories" "$expected/tinystories656k_hf.json" || fail "Hugging Face folder"

# One weight of a middle layer a little off must be seen.
cp "$models/stories260K/stories260K.bin" "$work/off.bin"
chmod u+w "$work/off.bin"
printf '\x3f' | dd of="$work/off.bin" bs=1 seek=300003 conv=notrunc status=none
! python3 "$peer" "$bin" "$work/off.bin" "$expected/stories260K.json" >/dev/null || fail "a damaged weight went unseen"
