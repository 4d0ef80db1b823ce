#!/usr/bin/env python3
"""Writes logits_processors.json beside itself: what transformers' logits processors make of random scores, in the order in
which its `generate` applies them, and the tokens that are then drawn.

    pip install transformers==4.57.6 torch==2.13.0
    python3 make_logits_processors.py
"""
import json
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

SEED, VOCABULARY, DRAWS = 20260201, 40, 6
CASES = [
    {"repetition_penalty": 1.7}, {"repetition_penalty": 0.6}, {"no_repeat_ngram": 1}, {"no_repeat_ngram": 2}, {"no_repeat_ngram": 3},
    {"temperature": 1.0}, {"temperature": 0.7}, {"temperature": 2.5}, {"temperature": 1.0, "top_k": 1}, {"temperature": 1.0, "top_k": 7},
    {"temperature": 1.0, "top_k": 400}, {"temperature": 1.0, "top_p": 0.01}, {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 1.0, "top_p": 0.95}, {"temperature": 1.0, "min_p": 0.05}, {"temperature": 1.0, "min_p": 0.4}, {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 1.3, "top_k": 12, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.2, "no_repeat_ngram": 2},
]
# Scores that are equal, and at the edge of a rule.
TIES = [2.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0] + [-3.0] * (VOCABULARY - 8)


def processors(model, options):
    drawn = options.get("temperature", 0.0) > 0.0
    config = GenerationConfig(
        do_sample=drawn, repetition_penalty=options.get("repetition_penalty", 1.0), no_repeat_ngram_size=options.get("no_repeat_ngram", 0),
        **({"temperature": options["temperature"], "top_k": options.get("top_k", 0), "top_p": options.get("top_p", 1.0),
            "min_p": options.get("min_p")} if drawn else {}))
    model._prepare_special_tokens(config, device="cpu")
    return model._get_logits_processor(config, input_ids_seq_length=0)


def main():
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    rows = []
    for options in CASES:
        for scores in (torch.randn(VOCABULARY) * 3, torch.tensor(TIES)):
            tokens = torch.randint(0, 12, (14,))
            processed = processors(model, options)(tokens[None], scores[None].clone())[0]
            draws = []
            if "temperature" in options:
                torch.manual_seed(7)
                draws = [int(torch.multinomial(processed[None].softmax(-1), 1)) for _ in range(DRAWS)]
            rows.append({"options": options, "scores": scores.tolist(), "tokens": tokens.tolist(),
                         "processed": [None if x == float("-inf") else x for x in processed.tolist()], "draws_with_seed_7": draws})
    made_by = {"script": Path(__file__).name, "torch": torch.__version__, "transformers": transformers.__version__, "seed": SEED}
    lines = ",\n".join(json.dumps(row) for row in rows)
    Path(__file__).with_suffix("").with_name("logits_processors.json").write_text(f'{{"made_by": {json.dumps(made_by)},\n"cases": [\n{lines}\n]}}\n')


main()
