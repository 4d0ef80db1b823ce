#!/usr/bin/env bash
# generate's flags as a user gives them: batches, several adapters, samples, beams, stop strings, streaming, scores, a chat.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories" "$alpaca"

for seed in 1 2; do
  "$bin/alpaca_sft" --quiet --threads 1 --model "$stories" --data "$alpaca" --max-examples 32 --max-steps 4 --max-length 96 --learning-rate 5e-2 \
    --rank 2 --seed $seed --output "$work/adapter$seed" >"$work/out" 2>"$work/err" || fail "no adapter: $(tail -n 1 "$work/err")"
done
generate=("$bin/generate" --threads 1 --dtype float32 --model "$stories" --max-new-tokens 30)
a=$work/adapter1 b=$work/adapter2

# texts FILE [KEY=VALUE]: tokens of every answer, of those that have this.
texts() {
  python3 - "$@" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    answer = json.loads(line)
    if all(str(answer.get(pair.split("=", 1)[0])) == pair.split("=", 1)[1] for pair in sys.argv[2:]):
        print(answer["tokens"])
PY
}
same() { cmp -s "$1" "$2" || { head -n 3 "$1" "$2" >&2; fail "$3"; }; }

printf '%s\n' 'Once upon a time' 'One day, a little girl named Lily found a needle in her room. She' 'The dog' 'Tom and Sue were in the park. They saw a big' >"$work/prompts.txt"
"${generate[@]}" --prompt-file "$work/prompts.txt" --adapter "$a" --json --batch-size 1 >"$work/alone.jsonl"
"${generate[@]}" --prompt-file "$work/prompts.txt" --adapter "$a" --json >"$work/together.jsonl"
[ "$(wc -l <"$work/together.jsonl")" -eq 4 ] || fail "4 prompts, $(wc -l <"$work/together.jsonl") answers"
texts "$work/alone.jsonl" >"$work/alone"; texts "$work/together.jsonl" >"$work/together"
same "$work/alone" "$work/together" "a batch answers otherwise than its prompts alone"

# Several adapters, and none, in one batch.
"${generate[@]}" --prompt-file "$work/prompts.txt" --adapter "$a" --adapter none --adapter "$b" --json >"$work/all.jsonl"
"${generate[@]}" --prompt-file "$work/prompts.txt" --adapter "$b" --json >"$work/b.jsonl"
"${generate[@]}" --prompt-file "$work/prompts.txt" --json >"$work/none.jsonl"
for pair in "$a alone" "$b b" "none none"; do
  set -- $pair
  texts "$work/all.jsonl" "adapter=$1" >"$work/found"; texts "$work/$2.jsonl" >"$work/expected"
  same "$work/expected" "$work/found" "$2 answers otherwise beside other adapters"
done
cmp -s <(texts "$work/b.jsonl") <(texts "$work/none.jsonl") && fail "the adapter changes nothing"
"${generate[@]}" --prompt 'The dog' --adapter "$a" --adapter none >"$work/out"
grep -q "^$a: " "$work/out" && grep -q '^none: ' "$work/out" || fail "text does not say whose it is"

# What a line of a .jsonl file asks for.
python3 - "$work" "$a" <<'PY'
import json, sys
with open(sys.argv[1] + "/lines.jsonl", "w") as file:
    for line in ({"adapter": "none"}, {"adapter": sys.argv[2], "scale": 0.0}, {"adapter": sys.argv[2]}, {"adapter": sys.argv[2], "scale": 1.0}):
        print(json.dumps({"prompt_tokens": [1, 5, 9, 22], **line}), file=file)
PY
"${generate[@]}" --prompt-file "$work/lines.jsonl" --adapter "$a" --json --logprobs >"$work/lines.out"
python3 - "$work/lines.out" <<'PY' || fail "lines that ask for an adapter and a scale are not obeyed"
import json, sys
none, off, on, one = [json.loads(line)["log_probabilities"] for line in open(sys.argv[1])]
far = lambda a, b: max(abs(x - y) for x, y in zip(a, b))
assert far(none, off) < 1e-5 and far(on, one) < 1e-5 and far(none, on) > 1e-3, (far(none, off), far(on, one), far(none, on))
PY
echo '{"prompt": "x", "adapter": "other"}' >"$work/other.jsonl"
expect_error 1 '"other": expected one of' "${generate[@]}" --prompt-file "$work/other.jsonl" --adapter "$a"
echo '{"prompt": "x", "prompt_tokens": [1]}' >"$work/both.jsonl"
expect_error 1 "both.jsonl: line 1" "${generate[@]}" --prompt-file "$work/both.jsonl"

# Samples, beams, stop strings.
"${generate[@]}" --prompt 'The dog' --temperature 1 --num-samples 3 --json >"$work/samples.jsonl"
[ "$(texts "$work/samples.jsonl" | sort -u | wc -l)" -eq 3 ] || fail "3 samples are not 3"
"${generate[@]}" --prompt 'The dog' --temperature 1 --seed 43 --json >"$work/second.jsonl"
same <(texts "$work/samples.jsonl" sample=1) <(texts "$work/second.jsonl") "sample 1 is not drawn with seed + 1"
"${generate[@]}" --prompt 'The dog' --num-beams 4 --num-samples 2 --json >"$work/beams.jsonl"
python3 - "$work/beams.jsonl" <<'PY' || fail "beams are not as promised"
import json, sys
best, second = map(json.loads, open(sys.argv[1]))
assert best["beam_score"] > second["beam_score"] and best["tokens"] != second["tokens"]
PY
"${generate[@]}" --prompt 'The dog' >"$work/whole"
"${generate[@]}" --prompt 'The dog' --stop ' and' --stop '.' --json >"$work/cut.json"
python3 - "$work" <<'PY' || fail "stop strings are not obeyed"
import json, re, sys
whole, cut = open(sys.argv[1] + "/whole").read()[:-1], json.load(open(sys.argv[1] + "/cut.json"))
assert cut["text"] == re.split(r" and|\.", whole)[0] and cut["finish_reason"] == "stop" and len(cut["text"]) < len(whole), (whole, cut)
PY
"${generate[@]}" --prompt-file "$work/prompts.txt" --stream >"$work/streamed"
"${generate[@]}" --prompt-file "$work/prompts.txt" >"$work/plain"
same "$work/plain" "$work/streamed" "streamed text is another"
[ "$(printf 'The dog\n\nOnce upon a time\n' | "${generate[@]}" --interactive)" = "> $(<"$work/whole")
> > $(head -n 1 "$work/plain")
> " ] || fail "a chat answers otherwise"

# With a chat template the lines are turns of one conversation.
cp -r "$stories" "$work/chat"
chmod -R u+w "$work/chat"
printf '%s' "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}|{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}" \
  >"$work/chat/chat_template.jinja"
chatting=("$bin/generate" --threads 1 --model "$work/chat" --max-new-tokens 12)
# answer_in_chat MESSAGE...: what follows these turns, the user's and the assistant's in turn.
answer_in_chat() {
  python3 -c 'import json, sys
turns = [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(sys.argv[1:])]
print(json.dumps({"messages": turns, "add_generation_prompt": True}))' "$@" >"$work/chat.jsonl"
  "${chatting[@]}" --tokens "$("$bin/tokenize" --model "$work/chat" --chat "$work/chat.jsonl" | json /dev/stdin '",".join(map(str, o["tokens"]))')"
}
first=$(answer_in_chat 'The dog')
second=$(answer_in_chat 'The dog' "$first" 'ran')
[ "$("${chatting[@]}" --prompt 'The dog' --template chat)" = "$first" ] || fail "--template chat is not the model's template"
[ "$(printf 'The dog\nran\n' | "${chatting[@]}" --interactive)" = "> $first
> $second
> " ] || fail "the turns of a conversation are not kept"
[ "$(printf 'The dog\n' | "${chatting[@]}" --interactive --template none | head -n 1)" = "> $("${chatting[@]}" --prompt 'The dog')" ] || fail "another wording was asked for"
expect_error 1 "without a chat template" "${generate[@]}" --prompt x --template chat

# Scores of given text.
"${generate[@]}" --prompt 'The dog' --json --logprobs >"$work/greedy.json"
"${generate[@]}" --prompt 'The dog' --json --score-tokens "$(json "$work/greedy.json" '",".join(map(str, o["tokens"]))')" >"$work/score.json"
python3 - "$work" <<'PY' || fail "a score is not what generating said"
import json, sys
greedy, score = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("greedy", "score"))
assert score["tokens"] == greedy["tokens"]
assert max(abs(a - b) for a, b in zip(score["log_probabilities"], greedy["log_probabilities"])) < 1e-4
assert abs(score["log_probability"] - sum(score["log_probabilities"])) < 1e-9
PY
likely=$("${generate[@]}" --prompt 'Once upon a time there was a little' --score ' girl named Lily.')
unlikely=$("${generate[@]}" --prompt 'Once upon a time there was a little' --score ' Lily a girl named.')
python3 -c "import sys; sys.exit(not $likely > $unlikely)" || fail "scores: $likely for a sentence, $unlikely for its words in disorder"

expect_error 1 "several greedy samples would be the same" "${generate[@]}" --prompt x --num-samples 2
expect_error 1 "a temperature of 0 with beams" "${generate[@]}" --prompt x --num-beams 2 --temperature 1
expect_error 1 "expected one adapter" "${generate[@]}" --interactive --adapter "$a" --adapter none
expect_error 2 "--logprobs" "${generate[@]}" --prompt x --logprobs
expect_error 2 "--json" "${generate[@]}" --prompt x --json --stream
expect_error 2 "--early-stopping" "${generate[@]}" --prompt x --early-stopping maybe

# A tokenizer of another file than tokenizer.json.
mkdir "$work/ranks"
ln -s "$stories"/{config.json,model.safetensors} "$work/ranks"
printf 'YQ== 5\nYg== 7\n' >"$work/ranks/tokenizer.model"
"$bin/generate" --model "$work/ranks" --prompt ab --json --max-new-tokens 1 --quiet >"$work/out"
[ "$(json "$work/out" 'o["prompt_tokens"]')" = "[5, 7]" ] || fail "ranks: $(<"$work/out")"
