#!/usr/bin/env bash
# memorization: cells are what decoding gives back, finished ones are not run again, the threads change nothing, and one
# cell is what pyreft makes of it from the same start.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
memorization=$bin/memorization text=$source_dir/examples/data/story.txt embedded=$source_dir/examples/tiny_model
[ -x "$memorization" ] || fail "$memorization is not built"

sweep=("$memorization" --layers "1;5" --lengths 1,6 --kinds natural,random --max-steps 120)
expect_code 0 "a sweep" "${sweep[@]}" --threads 2 --output "$work/a" --adapters
cp "$work/out" "$work/first"
[ "$(json "$work/out" 'sorted({(c["kind"], c["rank"], c["layer"], c["length"]) for c in o["cells"]}) == sorted((k, 1, l, n) for k in ("natural", "random") for l in (1, 5) for n in (1, 6))')" = True ] ||
  fail "not one cell for each combination: $(cat "$work/out")"
[ "$(json "$work/out" 'all(c["recovery"] == c["recovered_tokens"] / c["length"] and 0 <= c["steps"] <= 120 for c in o["cells"])')" = True ] ||
  fail "recovery is not recovered_tokens / length"
# One edit of one hidden state: below the last layer it holds a natural token or more; in the last one it reaches only the first.
[ "$(json "$work/out" 'all(c["recovered_tokens"] >= 1 for c in o["cells"] if c["kind"] == "natural" and c["layer"] == 1)')" = True ] || fail "nothing is memorized"
[ "$(json "$work/out" 'all(c["recovered_tokens"] <= 1 for c in o["cells"] if c["kind"] == "random" and c["layer"] == 5)')" = True ] ||
  fail "the last layer gives back what it cannot reach"

# A cell is what `generate` gives with its adapter.
expect_code 0 "tokens of the text" "$bin/tokenize" --model "$embedded" --file "$text" --no-special
cp "$work/out" "$work/text.json"
for length in 1 6; do
  expect_code 0 "generation" "$bin/generate" --model "$embedded" --dtype float32 --adapter "$work/a/adapters/natural-rank1-layer1-length$length" --template none \
    --prompt "ALIC#ID1->" --json --max-new-tokens $length
  python3 - "$work/out" "$work/text.json" "$work/first" $length <<'PY' || fail "generate gives back something else"
import json, os, sys
new, text = json.load(open(sys.argv[1]))["tokens"], json.load(open(sys.argv[2]))
cell = [c for c in json.load(open(sys.argv[3]))["cells"] if (c["kind"], c["layer"], c["length"]) == ("natural", 1, int(sys.argv[4]))][0]
right = len(os.path.commonprefix([new, text[:cell["length"]]]))
assert right == cell["recovered_tokens"], (new, text[:cell["length"]], cell)
PY
done

# The picture: XML, with a number in each cell.
python3 - "$work/a/memorization.svg" "$work/a/memorization.json" <<'PY' || fail "the heat map is not as promised"
import json, sys
import xml.etree.ElementTree as tree
texts = [e.text for e in tree.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}text")]
for cell in json.load(open(sys.argv[2]))["cells"]:
    assert f"{100 * cell['recovery']:.0f}" in texts, (cell, texts)
assert {f"recovered per cent: {kind}, rank 1" for kind in ("natural", "random")} <= set(texts), texts
PY

# Threads change nothing; a run that was cut off goes on: the line that is kept shows, the one cut short is run again.
strip='[{k: v for k, v in c.items() if k != "seconds"} for c in o["cells"]]'
expect_code 0 "one thread" "${sweep[@]}" --threads 1 --output "$work/b"
[ "$(json "$work/out" "$strip")" = "$(json "$work/first" "$strip")" ] || fail "the number of threads changes the cells"
python3 - "$work/b/cells.jsonl" <<'PY'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
marked = json.loads(lines[1])
marked["steps"] = 77777
open(sys.argv[1], "w").write("\n".join([lines[0], json.dumps(marked), *lines[2:-1], lines[-1][:20]]))
PY
expect_code 0 "going on" "${sweep[@]}" --threads 1 --output "$work/b"
[ "$(grep -c '^1/1 ' "$work/err")" = 1 ] || { cat "$work/err" >&2; fail "finished cells are run again"; }
[ "$(json "$work/out" 'sum(c["steps"] == 77777 for c in o["cells"]), len(o["cells"])')" = "(1, 8)" ] || fail "a finished cell is lost"
expect_error 1 "holds cells of another learning_rate: 0.01, now 0.1" "${sweep[@]}" --learning-rate 0.1 --output "$work/b"
expect_code 0 "beginning anew" "$memorization" --layers 0 --lengths 1 --kinds natural --max-steps 1 --learning-rate 0.1 --output "$work/b" --overwrite
[ "$(json "$work/out" 'len(o["cells"])')" = 1 ] || fail "--overwrite does not begin anew"

expect_error 1 "the model has room for" "$memorization" --lengths 400 --output "$work/x"
expect_error 1 "layer 9" "$memorization" --layers 9 --lengths 1 --output "$work/x"
expect_error 1 "no such file" "$memorization" --text "$work/none" --output "$work/x"
expect_error 2 "--kinds" "$memorization" --kinds prose --output "$work/x"

# One cell by pyreft, from the same start: 8 random tokens, more than rank 1 can hold here, and never stopped early.
need "$shared/peers/pyreft_ref.py"
python=$(pyreft_python) || { [ -s "$work/no-peers" ] && skip "no pyreft: $(cat "$work/no-peers")"; fail "no peers"; }
cell=("$memorization" --layers 2 --lengths 12 --kinds natural --learning-rate 0.02 --adapters)
expect_code 0 "the start" "${cell[@]}" --max-steps 0 --output "$work/start"
expect_code 0 "our cell" "${cell[@]}" --max-steps 150 --output "$work/cell"
cp "$work/out" "$work/ours"
expect_code 0 "the start's matrices" "$bin/convert" "$work/start/adapters/natural-rank1-layer2-length12" --dump "$work/start.safetensors"
expect_code 0 "tokens of the prompt" "$bin/tokenize" --model "$embedded" --text "ALIC#ID1->"
python3 - "$work/out" "$work/text.json" "$work/batches.json" >"$work/prompt" <<'PY'
import json, sys
prompt, text = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))[:12]
ids = prompt + text
json.dump([{"input_ids": [ids], "attention_mask": [[1] * len(ids)], "labels": [[-100] * len(prompt) + text],
            "intervention_locations": [[[len(prompt) - 1]]]}], open(sys.argv[3], "w"))
print(",".join(map(str, prompt)))
PY
"$python" "$shared/peers/pyreft_ref.py" reft-train --model "$embedded" --batches "$work/batches.json" --intervention consreft --rank 1 --layers 2 \
  --positions l1 --steps 150 --batch 1 --lr 0.02 --schedule linear --no-dropout --init "$work/start.safetensors" --out "$work/peer" >"$work/log" 2>&1 ||
  { tail -n 3 "$work/log" >&2; fail "pyreft cannot train the cell"; }
"$python" "$shared/peers/pyreft_ref.py" reft-generate --model "$embedded" --reft "$work/peer/final" --positions l1 --tokens "$(cat "$work/prompt")" \
  --max-new 12 >"$work/peer.json" 2>"$work/log" || { tail -n 3 "$work/log" >&2; fail "pyreft cannot generate"; }
python3 - "$work/peer.json" "$work/text.json" "$work/ours" <<'PY' || fail "pyreft's cell differs"
import json, os, sys
theirs = json.loads(open(sys.argv[1]).read().strip().split("\n")[-1])["reft"][0]
text = json.load(open(sys.argv[2]))[:12]
ours = json.load(open(sys.argv[3]))["cells"][0]["recovered_tokens"]
print("recovered by pyreft", len(os.path.commonprefix([theirs, text])), "here", ours)
assert abs(len(os.path.commonprefix([theirs, text])) - ours) <= 2 and ours > 0, (theirs, text, ours)
PY
