#!/usr/bin/env bash
# --report: one page that needs nothing else, with the run's curves, samples and settings, and the data's text escaped.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
report=$work/report.html
train=("$bin/alpaca_sft" --threads 1 --quiet --model "$source_dir/examples/tiny_model")

python3 - "$source_dir/examples/data/instructions_train.json" "$work/data.json" <<'PY'
import json, sys
rows = json.load(open(sys.argv[1]))[:60]
for row in rows:
    row["instruction"] += " <script>alert('&')</script>"
json.dump(rows, open(sys.argv[2], "w"))
PY
expect_code 0 "a run with a report" "${train[@]}" --data "$work/data.json" --eval-fraction 0.2 --epochs 3 --rank 3 --output "$work/adapter" --report "$report"
python3 - "$report" "$work/adapter" <<'PY' || fail "the report is not as promised"
import re, sys
from html.parser import HTMLParser
text = open(sys.argv[1], encoding="utf-8").read()
void = {"meta"}
class Page(HTMLParser):
    """Tags that close in order, all attributes, all text."""
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], []
    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
        if tag not in void: self.open.append(tag)
    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
    def handle_data(self, data):
        self.text.append(data)
page = Page()
page.feed(text)
assert not page.open, page.open
assert "script" not in page.seen and page.seen.count("svg") == 5, page.seen.count("svg")
assert not [name for name, value in page.attributes if name in ("src", "href") or name.startswith("on")]
assert not re.search(r"https?://|url\(|@import", text)
words = " ".join(page.text)
for part in (sys.argv[2], "18 of 18", "Loss", "Learning rate", "Gradient norm", "Tokens per second", "Memory in use", "evaluation loss",
             "Before and after", "<script>alert('&')</script>", "before", "after", "expected", "layers.0.block_output", "loreft",
             "--learning-rate", "0.0009", "--rank", "Configuration"):
    assert part in words, part
assert text.count('class="sample"') == 8, text.count('class="sample"')
PY
expect_error 1 "--report $report: the file exists" "${train[@]}" --data "$work/data.json" --output "$work/never" --report "$report"
expect_error 1 "missing/r.html" "${train[@]}" --data "$work/data.json" --output "$work/adapter_2" --report "$work/missing/r.html"

# Tokens without text have no samples; the rest is there.
echo '{"input_ids":[1,80,147],"labels":[-100,80,147],"prompt_length":1}' >"$work/tokens.jsonl"
expect_code 0 "a report on tokens" "${train[@]}" --data "$work/tokens.jsonl" --epochs 2 --output "$work/tokens" --report "$work/tokens.html"
grep -q "2 of 2" "$work/tokens.html" || fail "the report on tokens lacks its steps"
! grep -q 'class="sample"' "$work/tokens.html" || fail "a report on tokens has samples"
