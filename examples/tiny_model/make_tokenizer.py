#!/usr/bin/env python3
"""Trains the vocabulary of the tiny model: byte-level BPE on the corpus of make_world.py.

    python3 make_tokenizer.py --corpus corpus.jsonl --output .

Needs the Python package `tokenizers`. Writes tokenizer.json and tokenizer_config.json.
"""
import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY_SIZE = 1536
BOS, EOS = "<s>", "</s>"

# The corpus never shows the instruction format; its words are in the vocabulary so that prompts stay short.
TEMPLATE_WORDS = ("Below is an instruction that describes a task, paired with an input that provides further context. "
                  "Write a response that appropriately completes the request.\n\n"
                  "### Instruction:\n\n### Input:\n\n### Response:\n")


def documents(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            yield json.loads(line)["text"]
            if number % 20 == 0:
                yield TEMPLATE_WORDS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="corpus.jsonl")
    parser.add_argument("--output", default=Path(__file__).resolve().parent, help="folder of the model")
    arguments = parser.parse_args()

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(documents(arguments.corpus), trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=[BOS, EOS], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])

    output = Path(arguments.output)
    tokenizer.save(str(output / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS, "add_bos_token": True,
              "add_eos_token": False, "clean_up_tokenization_spaces": False, "model_max_length": 256}
    (output / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
