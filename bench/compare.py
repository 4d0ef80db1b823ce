"""Runs reft_bench and the peers' pyreft_bench.py in turn and writes the ratios; see compare.sh.

A row counts only where both sides' losses agree: their means over the run within 0.05. Memory is the peak above what was
there before the weights were loaded and their own bytes; a start is the wall time of a whole process that takes one training step.
"""
import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = {  # hidden, layers, heads, key and value heads, feed-forward, vocabulary
    "b": (256, 8, 8, 8, 688, 4096),
    "c": (768, 12, 12, 12, 2048, 32000),
    "d": (2048, 4, 16, 16, 5504, 32000),
}


@dataclasses.dataclass
class Row:
    name: str
    shape: str  # of the model; "" where the flags say it
    flags: str
    figure: str
    target: float  # at most, or at least where higher is better
    effort: str
    against: str = "pyreft"  # or "float32": our own program with a base in float32; or "": the figure itself is bounded


REAL = "--data ALPACA --tokenizer PHI3 --steps 3 --warmup 1 --batch 8"
ADAPTERS = "--mode load --hidden 4096 --layers 32 --heads 1 --kv-heads 1 --head-dim 64 --inter 64 --vocab 64 --rank 8"
ROWS = [
    Row("a, real lengths: step", "a", "--data ALPACA --steps 8 --batch 8", "step_s", 0.40, "quick"),
    Row("a, equal lengths: step", "a", "--batch 8 --seq 128", "step_s", 0.75, "quick"),
    Row("b, equal lengths: step", "b", "--batch 8 --seq 128", "step_s", 0.75, "quick"),
    Row("e, few-shot (d, 2 x 32): step", "d", "--batch 2 --seq 32 --steps 3 --warmup 1", "step_s", 0.45, "quick"),
    Row("c, real lengths: step", "c", REAL, "step_s", 0.50, "full"),
    Row("c, real lengths, layer 6 only, from epoch 2: step", "c", REAL + " --reft-layers 6 --trunk-cache", "step_s", 0.36, "full"),
    Row("a, real lengths, layer 1 only, from epoch 2: step", "a", "--data ALPACA --steps 8 --batch 8 --reft-layers 1 --trunk-cache", "step_s", 0.36, "quick"),
    Row("a, real lengths, last position only, from epoch 2: step", "a", "--data ALPACA --steps 8 --batch 8 --positions l1 --trunk-cache", "step_s", 0.60, "quick"),
    Row("c, equal lengths: step", "c", "--batch 8 --seq 256 --steps 2 --warmup 1", "step_s", 0.75, "full"),
    Row("d, equal lengths: step", "d", "--batch 4 --seq 256 --steps 2 --warmup 1", "step_s", 0.75, "full"),
    Row("c, real lengths: peak memory", "c", REAL, "memory_mb", 0.35, "full"),
    Row("c, real lengths, base in bfloat16: step", "c", REAL + " --dtype bfloat16", "step_s", 0.60, "full", "float32"),
    Row("a: time to first token", "a", "--mode generate", "prefill_s", 0.60, "quick"),
    Row("b: time to first token", "b", "--mode generate", "prefill_s", 0.60, "quick"),
    Row("c: time to first token", "c", "--mode generate", "prefill_s", 0.60, "full"),
    Row("d: time to first token", "d", "--mode generate", "prefill_s", 0.60, "full"),
    Row("a: decode", "a", "--mode generate", "decode_tok_s", 4.0, "quick"),
    Row("b: decode", "b", "--mode generate", "decode_tok_s", 2.0, "quick"),
    Row("c: decode", "c", "--mode generate", "decode_tok_s", 1.15, "full"),
    Row("c: decode, our base in bfloat16", "c", "--mode generate --dtype bfloat16", "decode_tok_s", 2.0, "full"),
    Row("c: decode, our base in bfloat16 and int8", "c", "--mode generate --dtype bfloat16 --quantize int8", "decode_tok_s", 2.0, "full"),
    Row("a: process start to first step", "a", "--warmup 0 --steps 1 --batch 8 --seq 128", "process_s", 0.10, "quick"),
    Row("64 interventions, r 8, D 4096: adapter load", "", ADAPTERS, "load_s", 0.020, "quick", ""),
]
HIGHER_IS_BETTER = {"decode_tok_s"}
OURS_ALONE = {"--mode": 1, "--trunk-cache": 0, "--dtype": 1, "--quantize": 1}  # flags of reft_bench, and their values


def without(flags, names):
    kept, i = [], 0
    while i < len(flags):
        if flags[i] not in names:
            kept.append(flags[i])
        i += 1 + (OURS_ALONE[flags[i]] if flags[i] in names else 0)
    return kept


def run(command, environment=None):
    begin = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    result["process_s"] = time.perf_counter() - begin
    if "rss_model_mb" in result:
        # pyreft's side does not say what it had before loading; its weights are memory-mapped and not there yet when it has loaded.
        before = result.get("rss_before_mb", result["rss_model_mb"])
        result["memory_mb"] = result["peak_rss_mb"] - before - 4 * result["model_params"] / 2**20
    return result


def once(side, options, model, flags):
    """One process of one side."""
    common = ["--rank", 4, "--positions", "f1+l1", "--threads", options.threads]
    common = (["--model", model] if model else []) + [part for i in range(0, 6, 2) if common[i] not in flags for part in common[i:i + 2]]
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    if side != "pyreft":
        own = without(flags, {"--dtype"}) if side == "float32" else flags
        mode = [] if "--mode" in flags else ["--mode", "train"]
        return run([os.path.join(options.bin, "reft_bench"), *common, *own, *mode], environment)
    theirs = common + without(flags, set(OURS_ALONE))
    if "--warmup" in flags and flags[flags.index("--warmup") + 1] == "0":  # it wants a step to warm up with; that is the first
        theirs[theirs.index("--warmup") + 1], theirs[theirs.index("--steps") + 1] = "1", "0"
        return first_step_of_pyreft(options, theirs, environment)
    return run([sys.executable, os.path.join(options.shared, "peers", "pyreft_bench.py"), *theirs, "--child", "--methods",
                "gen-pyreft" if "--mode" in flags else "pyreft"], environment)


def first_step_of_pyreft(options, flags, environment):
    """A whole process that takes one step; its figures need a step that is measured, so it takes a second one and is charged for
    the first."""
    flags[flags.index("--steps") + 1] = "1"
    result = run([sys.executable, os.path.join(options.shared, "peers", "pyreft_bench.py"), *flags, "--child", "--methods", "pyreft"], environment)
    result["process_s"] -= result["step_s"]
    return result


def is_wanted(options, row):
    return (options.effort == "full" or row.effort == "quick") and options.only in row.name


def make_models(options, work):
    models = {"a": os.path.join(options.shared, "assets", "models", "tinystories656k_hf")}
    for name, (hidden, layers, heads, kv_heads, inter, vocab) in SHAPES.items():
        if not any(row.shape == name and is_wanted(options, row) for row in ROWS):
            continue
        models[name] = os.path.join(work, name)
        subprocess.run([sys.executable, os.path.join(options.shared, "peers", "pyreft_ref.py"), "random-model", "--arch", "llama", "--out", models[name],
                        "--hidden", str(hidden), "--layers", str(layers), "--heads", str(heads), "--kv-heads", str(kv_heads),
                        "--inter", str(inter), "--vocab", str(vocab), "--scale", "0.55"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return models


def losses_agree(ours, theirs):
    if "losses" not in ours or "losses" not in theirs:
        return True  # random rows of each side's own generator: both see log V, which loss0 shows
    return abs(statistics.mean(ours["losses"]) - statistics.mean(theirs["losses"])) < 0.05


def measure(options, models, row, cache):
    assets = os.path.join(options.shared, "assets")
    flags = row.flags.replace("ALPACA", os.path.join(assets, "datasets/alpaca/llamafactory_alpaca_en_demo.json")).replace(
        "PHI3", os.path.join(assets, "tokenizers/phi3")).split()
    key = (row.shape, row.flags, row.against)
    if key not in cache:
        sides = ["reft"] + ([row.against] if row.against else [])
        cache[key] = {side: [] for side in sides}
        for round_number in range(options.rounds):
            for side in sides[::1 if round_number % 2 == 0 else -1]:
                cache[key][side].append(once(side, options, models.get(row.shape), flags))
                print(".", end="", flush=True, file=sys.stderr)
    found = cache[key]
    medians = {side: statistics.median(result[row.figure] for result in found[side]) for side in found}
    ratio = medians["reft"] / medians[row.against] if row.against else None
    bounded = medians["reft"] if ratio is None else ratio
    met = bounded >= row.target if row.figure in HIGHER_IS_BETTER else bounded <= row.target
    agree = all(losses_agree(a, b) for a, b in zip(found["reft"], found.get(row.against, [])))
    return {"row": row.name, "figure": row.figure, "reft": medians["reft"], "against": row.against, "other": medians.get(row.against), "ratio": ratio,
            "target": row.target, "met": met, "losses_agree": agree, "rounds": {side: [result[row.figure] for result in found[side]] for side in found}}


def table(rows):
    lines = ["| what | reft | pyreft | ratio | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        bound = ("≥" if row["figure"] in HIGHER_IS_BETTER else "≤") + f" {row['target']}"
        verdict = "losses differ" if not row["losses_agree"] else "met" if row["met"] else "**not met**"
        other = "" if row["other"] is None else f"{row['other']:.4g}" + (" (reft, float32)" if row["against"] == "float32" else "")
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"| {row['row']} | {row['reft']:.4g} | {other} | {ratio} | {bound} | {verdict} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", choices=["quick", "full"], required=True)
    for name in ("bin", "shared", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    rows, cache = [], {}
    with tempfile.TemporaryDirectory() as work:
        models = make_models(options, work)
        for row in ROWS:
            if is_wanted(options, row):
                rows.append(measure(options, models, row, cache))
    import torch
    result = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": options.threads, "rounds": options.rounds,
              "rows": rows}
    with open(options.output + ".json", "w") as file:
        json.dump(result, file, indent=1)
    with open(options.output + ".md", "w") as file:
        file.write(table(rows) + "\n")
    print("\n" + table(rows))


main()
