#!/usr/bin/env bash
# Conversations get the text and the ids transformers gives them, with the chat templates of real tokenizers and our own.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$shared/peers/requirements.txt" "$shared/assets/tokenizers/phi3/tokenizer_config.json"
here=$(dirname "${BASH_SOURCE[0]}")

python=$(peer_python jinja2) || { [ -s "$work/no-peers" ] && skip "no transformers: $(cat "$work/no-peers")"; fail "no peers"; }
"$python" "$here/chat_template_peer.py" make "$work" "$shared/assets" "$source_dir/tests/golden/chat_templates"
for case in $(<"$work/cases"); do
  "$bin/tokenize" --model "$work/$case/model" --chat "$work/$case/chats.jsonl" >"$work/$case/ours.jsonl"
done
"$python" "$here/chat_template_peer.py" compare "$work" || fail "transformers says something else"

# A difference must be seen.
echo '{{ messages[0].content }} ' >"$work/phi3/model/chat_template.jinja"
"$bin/tokenize" --model "$work/phi3/model" --chat "$work/phi3/chats.jsonl" >"$work/phi3/ours.jsonl"
! "$python" "$here/chat_template_peer.py" compare "$work" >/dev/null || fail "a wrong template went unseen"

# What a template refuses, and what it does not say, is told with its place.
echo '[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]' >"$work/refused.jsonl"
expect_error 1 "line 1: [reft::ChatTemplate] line" "$bin/tokenize" --model "$work/llama2/model" --chat "$work/refused.jsonl"
expect_error 1 "messages: expected an array" "$bin/tokenize" --model "$work/llama2/model" --chat <(echo '{}')
expect_error 1 "comes without a chat template" "$bin/tokenize" --model "$stories" --chat "$work/refused.jsonl"
