#!/usr/bin/env bash
# Conversations get the text and the ids transformers gives them, with the chat templates of real tokenizers and our own; what is
# trained and generated with a real one has its ids, and learns what the assistant says, with transformers' loss.
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

# Training: with the identity as the first edit (red), the first step's loss is the base's over the labels.
prompt=$("$python" "$here/chat_template_peer.py" model "$work" "$shared/assets")
for data in messages instructions; do
  expect_code 0 "training on $data" "$bin/alpaca_sft" --model "$work/chat" --data "$work/$data.jsonl" --template chat --intervention red --positions all \
    --max-steps 3 --epochs 3 --batch-size 12 --learning-rate 1e-2 --threads 1 --quiet --data-cache "$work/${data}_cache" \
    --metrics "$work/${data}_metrics.jsonl" --output "$work/$data"
done
"$python" "$here/chat_template_peer.py" trained "$work" || fail "alpaca_sft learns something else"
expect_error 1 "the model comes without a chat template" "$bin/alpaca_sft" --model "$stories" --data "$work/instructions.jsonl" --template chat --output "$work/never"

# Generating: the template is asked for, or the adapter's; with --interactive the turns stay.
ask=("$bin/generate" --model "$work/chat" --threads 1 --max-new-tokens 8)
question=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["question"])' "$prompt")
tokens=$(python3 -c 'import json, sys; print(*json.loads(sys.argv[1])["tokens"], sep=",")' "$prompt")
for wording in "--template chat" "--adapter $work/messages"; do
  "${ask[@]}" $wording --prompt "$question" --json >"$work/answer"
  [ "$(json "$work/answer" '",".join(map(str, o["prompt_tokens"]))')" = "$tokens" ] || fail "generate $wording asks otherwise"
done
[ "$(printf '%s\n' "$question" | "${ask[@]}" --adapter "$work/messages" --interactive | head -n 1)" = "> $("${ask[@]}" --adapter "$work/messages" --tokens "$tokens" | head -n 1)" ] ||
  fail "--interactive asks otherwise"
