"""The transformers side of chat_template_test.sh.

  make WORK SHARED TEMPLATES   folders WORK/<name>: model/ (a shared tokenizer that has a chat template, or one of ours in
                               its place), chats.jsonl, and what transformers makes of them; WORK/cases lists them
  compare WORK                 checks what our program left there; exits 1 if something is off
"""
import json
import os
import random
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import AutoTokenizer  # noqa: E402

CHATS = 60
WORDS = ["Hi", "what", "2 + 2 =", "Grüße,", "日本語", "🙂👩‍👩‍👧", "e\u0301", "\n\n", "  ", "\t", "<|end|>", "</s>", "{{ x }}", "\"q\"", "it's", "\u2028", "<b>&", "\\n", "x" * 50, ""]
TOOLS = [{"type": "function", "function": {"name": f"f{i}", "description": "Größe <x>", "parameters": {"type": "object", "required": ["a"], "properties": {
    "b": {"type": "number"}, "a": {"type": ["string", "null"], "description": "it's"}}}}} for i in range(3)]


def text(generator):
    return " ".join(generator.choice(WORDS) for _ in range(generator.randrange(6)))


def chat(generator):
    messages = [{"role": "system", "content": text(generator)}] if generator.random() < 0.4 else []
    for i in range(generator.randrange(1, 8)):
        messages.append({"role": "assistant" if i % 2 else "user", "content": text(generator)})
        if i % 2 and generator.random() < 0.2:
            messages[-1]["tool_calls"] = [{"id": "abcdefghi", "type": "function", "function": {"name": "f0", "arguments": {"b": generator.random(), "a": text(generator), "n": None}}}]
            messages += [{"role": "tool", "tool_call_id": "abcdefghi", "content": text(generator)}, {"role": "assistant", "content": text(generator)}]
    line = {"messages": messages, "add_generation_prompt": generator.random() < 0.5}
    if generator.random() < 0.3:
        line["tools"] = TOOLS[:generator.randrange(1, 4)]
    if generator.random() < 0.3:
        line["enable_thinking"] = generator.random() < 0.5
    return line


def has_template(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    return (folder / "tokenizer.json").exists() and ("chat_template" in config or (folder / "chat_template.jinja").exists())


def folders(work, shared, templates):
    """{name of a case: its model folder}"""
    found = sorted(path.parent for path in Path(shared).rglob("tokenizer_config.json") if has_template(path.parent))
    assert found, "no tokenizer with a chat template"
    cases = {f"real_{i}_{folder.name}": folder for i, folder in enumerate(found)}
    cases.update({path.stem: found[0] for path in sorted(Path(templates).glob("*.jinja"))})
    for name, source in cases.items():
        model = work / name / "model"
        model.mkdir(parents=True)
        for file in source.iterdir():
            if file.suffix in (".json", ".jinja"):
                shutil.copyfile(file, model / file.name)
        if not name.startswith("real_"):
            shutil.copyfile(Path(templates) / f"{name}.jinja", model / "chat_template.jinja")
    return {name: work / name / "model" for name in cases}


def make(work, shared, templates):
    cases = folders(work, shared, templates)
    for name, folder in cases.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        generator = random.Random(name)
        lines, expected, refused = [], [], 0
        while len(lines) < CHATS:
            line = chat(generator)
            try:
                rendered = tokenizer.apply_chat_template(line["messages"], tokenize=False, **{k: v for k, v in line.items() if k != "messages"})
            except Exception:  # noqa: BLE001: what templates refuse is compared in the golden tests
                refused += 1
                assert refused < 20 * CHATS, f"{name} refuses nearly all"
                continue
            lines.append(line)
            expected.append({"text": rendered, "tokens": tokenizer.encode(rendered, add_special_tokens=False)})
        (folder.parent / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder.parent / "expected.json").write_text(json.dumps(expected))
    (work / "cases").write_text(" ".join(cases))


def compare(work):
    problems = []
    for name in (work / "cases").read_text().split():
        expected = json.loads((work / name / "expected.json").read_text())
        ours = [json.loads(line) for line in (work / name / "ours.jsonl").read_text().split("\n")[:-1]]  # not splitlines: texts hold U+2028
        chats = [json.loads(line) for line in (work / name / "chats.jsonl").read_text().splitlines()]
        if len(ours) != len(expected):
            problems.append(f"{name}: {len(ours)} lines, expected {len(expected)}")
        told = 0
        for i, (mine, theirs, line) in enumerate(zip(ours, expected, chats)):
            for key in ("text", "tokens"):
                if mine[key] != theirs[key]:
                    problems.append(f"{name}: chat {i}: {key}: {mine[key]!r}, expected {theirs[key]!r}")
            # What is told to be the assistant's holds its words, turn by turn.
            answers = [message["content"].strip() for message in line["messages"] if message["role"] == "assistant"]
            if mine["assistant"] is not None and len(mine["assistant"]) == len(answers) and name != "chatml":
                told += all(answer in part for answer, part in zip(answers, mine["assistant"]) if "{{" not in answer)
        print(f"{name}: {len(ours)} chats, answers found in {told}")
        if name in ("gemma", "llama2", "phi3", "smollm") and told != len(chats):  # these write every message, and nothing else
            problems.append(f"{name}: the assistant's parts hold its answers in {told} of {len(chats)} chats")
    print("\n".join(problems[:10]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        compare(Path(sys.argv[2]))
