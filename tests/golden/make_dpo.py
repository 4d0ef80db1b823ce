#!/usr/bin/env python3
"""Writes what direct preference optimization gives by transformers and the formula of TRL's
DPOTrainer: the numbers tests/train/objective_test.cpp compares with.

    python make_dpo.py [OUTPUT.json]        torch 2.13.0, transformers 4.57.6

The base is tests/golden/pyreft/base. The policy is the base with h + b0 e5 + b1 e11 at layers.0.block_output on the first and
the last token of each prompt; the reference is the base. Everything in float64.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

BETA, COLUMNS, B = 0.1, (5, 11), (1.5, -0.75)
# prompt, chosen answer, rejected answer
PAIRS = [([1, 7, 30, 19], [38, 4, 11, 2], [25, 25, 2]), ([1, 22, 9, 14, 35, 6], [3, 2], [17, 8, 29, 33, 2]), ([1, 5], [12, 13, 2], [13, 12, 2])]


def log_probability(model, prompt, answer, edit=None):
    handle = None
    if edit is not None:
        def add(module, inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden.clone()
            for position in (0, len(prompt) - 1):
                hidden[0, position] = hidden[0, position] + edit
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
        handle = model.model.layers[0].register_forward_hook(add)
    ids = torch.tensor([prompt + answer])
    logits = model(ids).logits[0, :-1]
    if handle is not None:
        handle.remove()
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[len(prompt) - 1:].sum()


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    model = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(folder, "pyreft/base"), dtype=torch.float64, attn_implementation="eager").eval()
    b = torch.tensor(B, dtype=torch.float64, requires_grad=True)
    edit = torch.zeros(24, dtype=torch.float64).index_add(0, torch.tensor(COLUMNS), b)
    losses, chosen_rewards, rejected_rewards, references = [], [], [], []
    for prompt, chosen, rejected in PAIRS:
        with torch.no_grad():
            reference = [log_probability(model, prompt, answer) for answer in (chosen, rejected)]
        policy = [log_probability(model, prompt, answer, edit) for answer in (chosen, rejected)]
        rewards = [BETA * (p - r) for p, r in zip(policy, reference)]
        losses.append(-torch.nn.functional.logsigmoid(rewards[0] - rewards[1]))
        chosen_rewards.append(rewards[0].item())
        rejected_rewards.append(rewards[1].item())
        references += [value.item() for value in reference]
    total = torch.stack(losses).sum()
    total.backward()
    result = {"torch": torch.__version__, "transformers": transformers.__version__, "beta": BETA, "columns": COLUMNS, "b": B,
              "pairs": [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PAIRS], "references": references,
              "chosen_rewards": chosen_rewards, "rejected_rewards": rejected_rewards, "loss": total.item(), "gradient": b.grad.tolist()}
    with open(sys.argv[1] if len(sys.argv) > 1 else os.path.join(folder, "dpo.json"), "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
