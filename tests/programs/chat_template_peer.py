"""The transformers side of chat_template_test.sh.

  make WORK SHARED TEMPLATES   folders WORK/<name>: model/ (a shared tokenizer that has a chat template, or one of ours in
                               its place), chats.jsonl, and what transformers makes of them; WORK/cases lists them
  compare WORK                 checks what our program left there; exits 1 if something is off
  model WORK SHARED            WORK/chat: a Llama of random weights with a real tokenizer and its template, two files of chats to
                               train on, and prompts.jsonl, what generation should begin with
  trained WORK                 checks the tokens, labels and first loss that alpaca_sft had of them
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


QUESTION = "What is Grüße + 2?"


def as_messages(row):
    if "messages" in row:
        return row["messages"]
    return [{"role": "user", "content": "\n".join(filter(None, (row["instruction"], row["input"])))}, {"role": "assistant", "content": row["output"]}]


def supervised(tokenizer, messages):
    """(ids, labels): -100 but for the tokens that lie in an assistant's turn and its end, by their place in the text"""
    render = lambda count: tokenizer.apply_chat_template(messages[:count], tokenize=False)  # noqa: E731
    turns = [(len(render(i)), len(render(i + 1))) for i, message in enumerate(messages) if message["role"] == "assistant"]
    encoded = tokenizer(render(len(messages)), add_special_tokens=False, return_offsets_mapping=True)
    inside = [any(begin <= at < end for begin, end in turns) for at, _ in encoded["offset_mapping"]]
    ids = tokenizer.apply_chat_template(messages)
    assert ids == encoded["input_ids"]
    return ids, [token if learned else -100 for token, learned in zip(ids, inside)]


def model(work, shared):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    folder = work / "chat"
    folder.mkdir()
    for file in (Path(shared) / "tokenizers/phi3").iterdir():
        shutil.copyfile(file, folder / file.name)
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(vocab_size=32064, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3)).save_pretrained(folder)
    generator = random.Random(3)
    words = ["Hi", "what", "2 + 2 =", "Grüße,", "日本語", "🙂", "it's", "\n\n"]
    said = lambda: " ".join(generator.choice(words) for _ in range(1 + generator.randrange(6))).strip() or "x"  # noqa: E731
    chats = [{"messages": [{"role": "assistant" if i % 2 else "user", "content": said()} for i in range(2 * (1 + generator.randrange(3)))]} for _ in range(12)]
    rows = [{"instruction": said(), "input": said() if i % 2 else "", "output": said()} for i in range(12)]
    for name, lines in (("messages", chats), ("instructions", rows)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [{"role": "user", "content": QUESTION}]
    print(json.dumps({"question": QUESTION, "tokens": tokenizer.apply_chat_template(asked, add_generation_prompt=True)}))


def trained(work):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
    tokenizer, base = AutoTokenizer.from_pretrained(work / "chat"), AutoModelForCausalLM.from_pretrained(work / "chat", dtype=torch.float32)
    for name in ("messages", "instructions"):
        table, = [load_file(file) for file in (work / f"{name}_cache").iterdir()]
        rows = [json.loads(line) for line in (work / f"{name}.jsonl").read_text().split("\n")[:-1]]
        loss, count = 0.0, 0
        for i, row in enumerate(rows):
            ids, labels = supervised(tokenizer, as_messages(row))
            begin, end = table["offsets"][i:i + 2].tolist()
            assert table["input_ids"][begin:end].tolist() == ids, (name, i, "ids", table["input_ids"][begin:end].tolist(), ids)
            assert table["labels"][begin:end].tolist() == labels, (name, i, "labels", table["labels"][begin:end].tolist(), labels)
            first = next(j for j, label in enumerate(labels) if label != -100)
            assert table["prompt_lengths"][i] == first, (name, i, table["prompt_lengths"][i], first)
            with torch.no_grad():
                terms = sum(label != -100 for label in labels)
                loss += base(torch.tensor([ids]), labels=torch.tensor([labels])).loss.item() * terms
            count += terms
        steps = [json.loads(line)["loss"] for line in (work / f"{name}_metrics.jsonl").read_text().splitlines()]
        print(f"{name}: first loss {steps[0]:.6f}, transformers' {loss / count:.6f}; after {len(steps)} steps {steps[-1]:.6f}")
        assert abs(steps[0] - loss / count) < 1e-4 and steps[-1] < steps[0], (steps, loss / count)


if __name__ == "__main__":
    if sys.argv[1] == "model":
        model(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "trained":
        trained(Path(sys.argv[2]))
    elif sys.argv[1] == "make":
        make(Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        compare(Path(sys.argv[2]))
