#!/usr/bin/env bash
# Every kind of tokenizer gives the ids and texts of Hugging Face's `tokenizers`: those of the shared data, and small ones
# trained with the settings of known models, on llama.cpp's vectors, 5,000 random texts, Alice and 2 MiB of stories; and those
# of transformers' Python classes for SentencePiece models, where the library was installed when we were built.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$shared/peers/requirements.txt" "$shared/assets/tokenizers" "$shared/assets/datasets/tinystories"
peer=$(dirname "${BASH_SOURCE[0]}")/tokenizer_families_peer.py

python=$(peer_python sentencepiece protobuf tiktoken) || { [ -s "$work/no-peers" ] && skip "no tokenizers: $(cat "$work/no-peers")"; fail "no peers"; }
"$python" "$peer" make "$work" "$shared" >/dev/null

# ours CASE: what compare reads.
ours() { "$bin/tokenize" --model "$work/$1" --lines "$work/texts.jsonl" $(<"$work/$1.flags") >"$work/$1.jsonl"; }

cases=($(<"$work/cases"))
if "$bin/tokenize" --model "$work/llama2" --text a 2>&1 | grep -q "built without its library"; then
  echo "without SentencePiece: its cases are left out"
  cases=($(grep -vE '^(llama2|spm)' "$work/cases"))
fi
export -f ours
export bin work
printf '%s\n' "${cases[@]}" | xargs -P "$(nproc)" -I{} bash -euc 'ours {}'
"$python" "$peer" compare "$work" "${cases[@]}" || fail "the reference says something else"

# One merge less must be seen.
python3 - "$work/qwen2/tokenizer.json" <<'EOF'
import json, sys
tokenizer = json.load(open(sys.argv[1]))
del tokenizer["model"]["merges"][0]
json.dump(tokenizer, open(sys.argv[1], "w"))
EOF
cp "$work/qwen2.jsonl" "$work/qwen2.before"
ours qwen2
cmp -s "$work/qwen2.jsonl" "$work/qwen2.before" && fail "a missing merge went unseen"
true
