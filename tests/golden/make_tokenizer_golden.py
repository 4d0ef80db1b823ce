#!/usr/bin/env python3
"""Writes tokenizer.json beside itself: ids and decoded texts by Hugging Face's `tokenizers`, for the tests in C++.

    pip install tokenizers==0.22.2
    python3 make_tokenizer_golden.py --shared ../../../shared

Texts are our own or drawn from a seed. Tokenizers of the shared data are named by their folder, never copied.
"""
import argparse
import json
import random
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
SEED = 20260101
SHARED = ["tokenizers/phi3", "tokenizers/phi2_gpt2style", "models/tinystories656k_hf"]

TEXTS = [
    "", " ", "  ", "\n", "\t\t", " \n \n", "Hello", " Hello", "  Hello world ", "Hello, y'all! It's 3333 o'clock; don't.",
    "def f(x):\n    return x ** 2  # squared\n\n\tpass\r\n", "Größe, naïve, Ångström, Việt, Çelik, ﬁne ½ ² №",
    "日本語のテキスト、한국어 텍스트、नमस्ते दुनिया", "Привет, мир! שלום עולם مرحبا", "🦙🚀 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 a\u0323\u0307 \u200b\u200d\ufeff",
    "<s>", "a <s> b", "x</s>y", "<unk>", "<|endoftext|>", " <|endoftext|> ", "<|end|>\n<|user|>\nHi <|assistant|>", "<|start_story|>Once",
    "▁already ▁marked", "<0x41><0x0A>", "Ġbyte Ċ level", "\x00\x01\x7f\x80\u0085\u00a0\u2028\u3000", "0123456789 12 345.67e-8",
    "\U0010ffff\ue000\U000e0001", "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", " " * 40 + "x" + "\n" * 9,
]


def random_texts(count):
    """Assigned characters, combining marks, emoji, white space and ASCII in wild company."""
    generator = random.Random(SEED)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    pools = [assigned, [c for c in assigned if unicodedata.category(c)[0] == "M"], list(map(chr, range(0x1F300, 0x1F650))) + ["\u200d", "\ufe0f"],
             list("  \n\t\r\u00a0\u2003\u3000\u0085\u180e"), list("abcdefgh't's ABC 0123456789 .,!?-_<>|/")]
    return ["".join(generator.choice(generator.choice(pools)) for _ in range(generator.randrange(1, 30))) for _ in range(count)]


def golden(folder, texts):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append({"ids": ids, "with_special": len(tokenizer.encode(text).ids) - len(ids),
                     "decoded": tokenizer.decode(ids, skip_special_tokens=False), "skipping": tokenizer.decode(ids)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder of the shared test data")
    arguments = parser.parse_args()
    texts = TEXTS + random_texts(150)
    folders = {name: arguments.shared / "assets" / name for name in SHARED}
    folders["examples/tiny_model"] = HERE.parent.parent / "examples" / "tiny_model"
    result = {"made_by": "make_tokenizer_golden.py", "tokenizers": tokenizers.__version__,
              "unicodedata": unicodedata.unidata_version, "seed": SEED, "texts": texts,
              "rows": {name: golden(folder, texts) for name, folder in folders.items()}}
    with open(HERE / "tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
