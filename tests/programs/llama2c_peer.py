"""Compares activations and generate with one file of expected outputs; standard library only.

  BIN MODEL EXPECTED.json   prints one line; exits 1 and names what is off, if something is
"""
import array
import json
import math
import os
import subprocess
import sys
import tempfile

TOLERANCE = 1e-4  # absolute, for logits and hidden states; the expected ones were computed in float64


def read_safetensors(path):
    """{name: rows of floats} of a file of float32 matrices."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values, (rows, width) = array.array("f", data[begin:end]), entry["shape"]
            tensors[name] = [values[row * width:(row + 1) * width] for row in range(rows)]
    return tensors


def activations(program, model, ids, sites):
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "out.safetensors")
        subprocess.run([program, "--model", model, "--threads", "1", "--dtype", "float32", "--tokens", ",".join(map(str, ids)),
                        "--sites", ",".join(sites), "--output", output], check=True, stdout=subprocess.DEVNULL)
        return read_safetensors(output)


def mean_nll(logits, ids):
    def nll(row, target):
        largest = max(row)
        return largest + math.log(sum(math.exp(value - largest) for value in row)) - row[target]

    return sum(nll(row, target) for row, target in zip(logits, ids[1:])) / (len(ids) - 1)


def main(bin_folder, model, expected_path):
    with open(expected_path) as file:
        expected = json.load(file)
    program = os.path.join(bin_folder, "activations")
    layers = expected["config"]["n_layers"]
    blocks = [f"layers.{layer}.block_output" for layer in range(layers)]
    worst, problems = 0.0, []

    def compare(what, ours, theirs, tolerance=TOLERANCE):
        nonlocal worst
        error = max(abs(a - b) for a, b in zip(ours, theirs)) if len(ours) == len(theirs) else math.inf
        worst = max(worst, error)
        if not error <= tolerance:
            problems.append(f"{what} is off by {error:.2e}")

    for case in expected["cases"]:
        got = activations(program, model, case["ids"], ["embedding_output", "logits", *blocks])
        compare("logits", got["logits"][-1], case["last_logits"])
        compare("the embedding", got["embedding_output"][-1], case["embedding_last_pos"])
        for block, values in zip(blocks, case["block_output_last_pos"]):
            compare(block, got[block][-1], values)
        sums = [sum(map(abs, row)) for row in got["logits"]]
        compare("the sum of logits", [ours / theirs for ours, theirs in zip(sums, case["logits_abs_sum_per_pos"])], [1.0] * len(sums))
        compare("the loss", [mean_nll(got["logits"], case["ids"])], [case["nll_mean"]])
    story = expected["story_nll"]
    compare("the story's loss", [mean_nll(activations(program, model, story["ids"], ["logits"])["logits"], story["ids"])],
            [story["nll_mean"]])

    greedy = expected["greedy"]
    output = subprocess.run([os.path.join(bin_folder, "generate"), "--model", model, "--threads", "1", "--dtype", "float32", "--json",
                             "--tokens", ",".join(map(str, greedy["start_ids"])), "--max-new-tokens", str(greedy["new_tokens"])],
                            check=True, capture_output=True, text=True).stdout
    tokens = json.loads(output)["tokens"]
    if greedy["start_ids"] + tokens != greedy["ids"]:
        problems.append(f"the greedy continuation is {tokens}")
    print(f"{os.path.basename(model)}: largest error {worst:.1e}, {len(tokens)} greedy tokens")
    for problem in problems[:5]:
        print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
