"""What a training step costs as one thing grows at a time, beside the arithmetic that cannot be left out.

  python3 bench/scaling.py [--bin build/release/bin] [--rounds 3] [--threads 1]

Random Llamas; where nothing else is said 256 wide, 8 layers, vocabulary 4096, 8 sequences of 128 tokens of which a quarter is
supervised, LoReFT of rank 4 on f1+l1 of all layers. The floor counts multiplications and additions of a frozen model: 2 for each
weight and token forward, 2 backward above the lowest edit, attention over the causal half, and the head on supervised rows.
"""
import argparse
import json
import os
import statistics
import subprocess

BASE = {"hidden": 256, "layers": 8, "vocab": 4096, "batch": 8, "seq": 128, "rank": 4, "positions": "f1+l1", "reft-layers": "all"}
SUPERVISED = 0.25
SWEEPS = [
    ("tokens of a sequence", "seq", [32, 64, 128, 256, 512]),
    ("sequences", "batch", [1, 2, 4, 8, 16]),
    ("the one layer edited", "reft-layers", ["0", "3", "5", "7"]),
    ("positions, all layers", "positions", ["l1", "f1+l1", "f4+l4", "f16+l16", "all"]),
    ("rank", "rank", [1, 4, 16, 64]),
    ("hidden size", "hidden", [128, 256, 512, 1024]),
]


def shape(case):
    hidden = case["hidden"]
    return {"heads": hidden // 32, "kv-heads": hidden // 32, "inter": hidden * 43 // 16}


def floor_gflop(case):
    hidden, tokens = case["hidden"], case["batch"] * case["seq"]
    block = 4 * hidden * hidden + 3 * hidden * shape(case)["inter"]
    lowest = 0 if case["reft-layers"] == "all" else int(case["reft-layers"])
    above = case["layers"] - 1 - lowest
    matrices = 2 * block * tokens * (case["layers"] + above)
    attention = 2 * case["seq"] * hidden * tokens * (case["layers"] + 2.5 * above)
    head = 4 * hidden * case["vocab"] * tokens * SUPERVISED
    return (matrices + attention + head) / 1e9


def seconds(options, case):
    flags = [part for name, value in {**case, **shape(case)}.items() for part in ("--" + name, str(value))]
    command = [os.path.join(options.bin, "reft_bench"), "--mode", "train", "--warmup", "1", "--steps", "4", "--supervised", str(SUPERVISED),
               "--threads", str(options.threads), *flags]
    found = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["step_s"] for _ in range(options.rounds)]
    return statistics.median(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print("| what grows | to | seconds a step | floor, GFLOP | GFLOP/s |\n|---|---|---|---|---|")
    for title, name, values in SWEEPS:
        for value in values:
            case = {**BASE, name: value}
            time, floor = seconds(options, case), floor_gflop(case)
            print(f"| {title if value == values[0] else ''} | {value} | {time:.4f} | {floor:.1f} | {floor / time:.0f} |", flush=True)


main()
