#!/usr/bin/env python3
"""Trains the six forms here and in pyreft from one start on the same batches, and compares the loss of every step; then
goes on here from what each saved, which must not make a difference either.

    python trajectory.py PEERS BIN MODEL DATA [--learning-rate 4e-3]       torch, transformers 4.57, pyreft 0.1.0

PEERS holds pyreft_ref.py; BIN our programs; MODEL is a Hugging Face folder with a tokenizer, DATA Alpaca rows. A random
Llama of another shape reads the same tokens. The start is ours (`alpaca_sft --max-steps 0`), handed to pyreft by
`convert --dump`. At a learning rate other than 1e-3 rounding grows with the steps; the yardstick is then pyreft's own
distance from itself without the pad token that it puts before every row, which changes nothing but rounding.
"""
import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile

FORMS = ["loreft", "noreft", "direft", "ortho_direft", "consreft", "lobireft"]
PYREFT_NAMES = {"direft": "nodireft", "ortho_direft": "direft"}
STEPS, BATCH, RANK, POSITIONS = 40, 4, 4, "f1+l1"
ROUNDING = 1e-5  # losses are float32: two of a few units in the last place tell nothing
LIMIT = 1e-4  # absolute, of losses near 5: the two differ in the order of float32 sums only


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")


def peer(pyreft_ref, *arguments):
    """One command of pyreft_ref.py, in this process: importing pyreft takes longer than the training."""
    sys.argv = ["pyreft_ref.py", *map(str, arguments)]
    with contextlib.redirect_stdout(io.StringIO()):
        pyreft_ref.main()


def without_first_column(batches):
    """The same rows without the pad token in front."""
    def shift(rows):
        return [[[p - 1 for p in site] for site in row] for row in rows]
    return [{name: shift(rows) if name == "intervention_locations" else [row[1:] for row in rows]
             for name, rows in batch.items()} for batch in batches]


def unpadded(batches, stand_in=5):
    """The rows as pyreft's data set makes them. It masks every token that equals its pad token (here the unknown token, which
    this vocabulary needs for a line's end), so another stands in for it."""
    for batch in batches:
        for ids, labels, sites in zip(batch["input_ids"], batch["labels"], batch["intervention_locations"]):
            end = max((i + 1 for i, label in enumerate(labels) if label != -100), default=0)
            if end == 0:  # the prompt alone filled it
                continue
            yield {"input_ids": ids[:1] + [token or stand_in for token in ids[1:end]],
                   "labels": labels[:1] + [label or stand_in for label in labels[1:end]], "intervention_locations": sites}


def padded(rows):
    """pyreft's batches of these rows."""
    for first in range(0, STEPS * BATCH, BATCH):
        some = rows[first:first + BATCH]
        width = max(len(row["input_ids"]) for row in some)
        def fill(name, value):
            return [row[name] + [value] * (width - len(row[name])) for row in some]
        yield {"input_ids": fill("input_ids", 0), "labels": fill("labels", -100),
               "attention_mask": [[0] + [1] * (len(row["input_ids"]) - 1) + [0] * (width - len(row["input_ids"])) for row in some],
               "intervention_locations": [row["intervention_locations"] for row in some]}


def pretokenized(rows):
    """Ours of these rows, without the pad token in front."""
    for row in rows:
        prompt_length = next(i for i, label in enumerate(row["labels"][1:]) if label != -100)
        yield {"input_ids": row["input_ids"][1:], "labels": row["labels"][1:], "prompt_length": prompt_length}


def losses_here(bin_folder, model, data, start, output, learning_rate):
    metrics = output + ".jsonl"
    run(os.path.join(bin_folder, "alpaca_sft"), "--model", model, "--data", data, "--init-adapter", start, "--output", output,
        "--max-steps", STEPS, "--batch-size", BATCH, "--no-shuffle", "--schedule", "constant", "--learning-rate", learning_rate,
        "--max-grad-norm", 1, "--weight-decay", 0, "--threads", 1, "--metrics", metrics, "--quiet")
    return [row["loss"] for row in map(json.loads, open(metrics)) if "step" in row]


def losses_there(pyreft_ref, model, form, start, output, learning_rate, *rows):
    bias = ["--add-bias"] if form == "noreft" else []
    peer(pyreft_ref, *bias, "reft-train", "--model", model, *rows, "--intervention", PYREFT_NAMES.get(form, form), "--rank", RANK,
         "--positions", POSITIONS, "--lr", learning_rate, "--steps", STEPS, "--batch", BATCH, "--init", start, "--out", output)
    return [step["loss"] for step in json.load(open(os.path.join(output, "train.json")))["steps"]]


def continue_here(bin_folder, model, data, trained, output):
    """Goes on from a trained folder, with weight decay; pyreft's loader would lose R Rᵀ = I."""
    from safetensors.torch import load_file
    pyreft = [] if os.path.exists(os.path.join(trained, "adapter_config.json")) else ["--positions", POSITIONS, "--position-rule", "pyreft_shifted"]
    run(os.path.join(bin_folder, "alpaca_sft"), "--model", model, "--data", data, "--init-adapter", trained, *pyreft, "--output", output,
        "--max-steps", STEPS, "--batch-size", BATCH, "--no-shuffle", "--learning-rate", 1e-3, "--weight-decay", 0.01, "--threads", 1,
        "--metrics", output + ".jsonl", "--quiet")
    run(os.path.join(bin_folder, "convert"), output, "--dump", output + ".safetensors")
    losses = [row["loss"] for row in map(json.loads, open(output + ".jsonl")) if "step" in row]
    errors = [(R.T @ R).fill_diagonal_(0).abs().max().item() + (R.norm(dim=0) - 1).abs().max().item()
              for name, R in load_file(output + ".safetensors").items() if name.endswith("/R")]
    assert all(error < 1e-5 for error in errors), f"R is off by {max(errors)}"
    return losses


def distance(a, b):
    assert len(a) == len(b) == STEPS
    return max(abs(x - y) for x, y in zip(a, b))


def compare(pyreft_ref, bin_folder, name, model, form, rows, work, learning_rate):
    place = os.path.join(work, f"{name}-{form}")
    theirs_in, jsonl, bare = place + ".json", place + ".rows", place + ".bare.json"
    batches = list(padded(rows))
    json.dump(batches, open(theirs_in, "w"))
    json.dump(without_first_column(batches), open(bare, "w"))
    with open(jsonl, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in pretokenized(rows))
    bias = ["--projection-bias"] if form == "noreft" else []
    run(os.path.join(bin_folder, "alpaca_sft"), "--model", model, "--data", jsonl, "--intervention", form, "--rank", RANK, *bias,
        "--positions", POSITIONS, "--position-rule", "pyreft_shifted", "--output", place + ".start", "--max-steps", 0, "--seed", 3, "--quiet")
    run(os.path.join(bin_folder, "convert"), place + ".start", "--dump", place + ".safetensors")
    ours = losses_here(bin_folder, model, jsonl, place + ".start", place + ".reft", learning_rate)
    theirs = losses_there(pyreft_ref, model, form, place + ".safetensors", place + ".pyreft", learning_rate, "--batches", theirs_in)
    limit, found = LIMIT, distance(ours, theirs)
    if learning_rate != 1e-3:
        again = losses_there(pyreft_ref, model, form, place + ".safetensors", place + ".bare", learning_rate, "--batches", bare)
        limit = max(distance(theirs, again), ROUNDING)
    from_theirs = continue_here(bin_folder, model, jsonl, os.path.join(place + ".pyreft", "final"), place + ".continued")
    from_ours = continue_here(bin_folder, model, jsonl, place + ".reft", place + ".continued_own")
    continued = distance(from_theirs, from_ours)
    print(f"| {name} | {form} | {theirs[0]:.4f} | {theirs[-1]:.4f} | {found:.1e} | {limit:.1e} | {continued:.1e} |", flush=True)
    return found <= limit and continued <= LIMIT


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("peers", "bin", "model", "data"):
        parser.add_argument(name)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.peers)
    with contextlib.redirect_stdout(io.StringIO()):
        import pyreft_ref
    with tempfile.TemporaryDirectory() as work:
        random_llama = os.path.join(work, "random")
        peer(pyreft_ref, "random-model", "--arch", "llama", "--layers", 2, "--vocab", 2048, "--seed", 5, "--out", random_llama)
        peer(pyreft_ref, "reft-train", "--model", arguments.model, "--data", arguments.data, "--rank", RANK, "--positions", POSITIONS,
             "--steps", 2 * STEPS, "--batch", BATCH, "--max-length", 256, "--lr", 0, "--out", os.path.join(work, "rows"))
        rows = list(unpadded(json.load(open(os.path.join(work, "rows", "batches.json")))))[:STEPS * BATCH]
        print("| model | form | first loss | last loss | largest difference | limit | gone on here |\n|---|---|---|---|---|---|---|")
        passed = [compare(pyreft_ref, arguments.bin, name, model, form, rows, work, arguments.learning_rate)
                  for name, model in (("tinystories", arguments.model), ("random Llama", random_llama))
                  for form in FORMS]
    if not all(passed):
        sys.exit("some loss is further away than its limit")


main()
