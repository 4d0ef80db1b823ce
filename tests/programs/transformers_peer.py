"""The transformers side of transformers_test.sh.

  make WORK SHARED     one folder WORK/<case> per model: model/ (what both sides load), open/ (the same without an end token),
                       prompt and continued (token ids), and what transformers computes from them
  compare WORK CASE... checks what our programs left there; prints one line per case, exits 1 if something is off
"""
import contextlib
import io
import json
import os
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from peer_sites import LLAMA, Case, all_sites, write_continuation, write_ids  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

BFLOAT16_FACTOR = 1.5  # of transformers' own error
NEW_TOKENS = 200

LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}

# name -> (flags of pyreft_ref.py random-model, prompt length)
CASES = {
    "grouped_heads": ("--seed 1", 37),
    "tied": ("--seed 2 --shape small --tie", 24),
    "one_kv_head": ("--seed 3 --heads 6 --hidden 96 --kv-heads 1 --inter 200 --vocab 777", 19),
    "own_head_dim": ("--seed 4 --kv-heads 4 --config {\"head_dim\":24}", 30),
    "biases": ("--seed 5 --config {\"attention_bias\":true,\"mlp_bias\":true,\"hidden_act\":\"gelu_pytorch_tanh\"}", 33),
    "rope_llama3": ("--seed 6 --config " + json.dumps({"rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE}).replace(" ", ""), 120),
    "rope_linear": ("--seed 7 --config {\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2.0}}", 41),
    # Its frequencies change past 256 tokens. A prompt that is longer; continuing is compared inside the context.
    "rope_dynamic": ("--seed 8 --config {\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2.0}}", 300),
    "shards": ("--seed 9 --shape small --shard-size 300KB", 12),
    "stored_bfloat16": ("--seed 10 --dtype bf16", 21),
    "stored_float16": ("--seed 11 --dtype fp16", 21),
}


def make_folder(peer, out, flags):
    sys.argv = ["pyreft_ref.py", "random-model", "--arch", "llama", "--out", out, *flags.split()]
    with contextlib.redirect_stdout(io.StringIO()):
        peer.main()


def make_case(common, folder, length):
    path = os.path.join(folder, "model")
    # Without an end token every continuation has its full length.
    opened = os.path.join(folder, "open")
    os.makedirs(opened)
    for name in os.listdir(path):
        if name != "config.json":
            os.symlink(os.path.join(path, name), os.path.join(opened, name))
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    with open(os.path.join(opened, "config.json"), "w") as file:
        json.dump({**config, "eos_token_id": None}, file)

    model = common.load_model(path)
    vocabulary = model.config.vocab_size
    generator = torch.Generator().manual_seed(length)
    prompt = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
    write_ids(os.path.join(folder, "prompt"), prompt)
    save_file(all_sites(LLAMA, model, prompt), os.path.join(folder, "reference.safetensors"))

    write_continuation(folder, model, prompt[:24], NEW_TOKENS, eos=config.get("eos_token_id"))

    # The same rounded weights, computed in float32 and in bfloat16.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    save_file(all_sites(LLAMA, model, prompt), os.path.join(folder, "rounded.safetensors"))
    save_file(all_sites(LLAMA, common.load_model(path, torch.bfloat16), prompt), os.path.join(folder, "bfloat16.safetensors"))


def make(work, shared):
    sys.path.insert(0, os.path.join(shared, "peers"))
    import peers_common
    import pyreft_ref
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    stories = os.path.join(work, "tinystories")
    shutil.copytree(os.path.join(shared, "assets/models/tinystories656k_hf"), os.path.join(stories, "model"))
    os.chmod(os.path.join(stories, "model"), 0o755)  # test data may be read-only, and this must be removable
    make_case(peers_common, stories, 48)
    for name, (flags, length) in CASES.items():
        make_folder(pyreft_ref, os.path.join(work, name, "model"), flags)
        if name == "shards":
            assert os.path.exists(os.path.join(work, name, "model/model.safetensors.index.json"))
        make_case(peers_common, os.path.join(work, name), length)


def check_bfloat16(case):
    """Our error of all logits and block outputs, each relative to its own size, so that no site drowns the others."""
    rounded, theirs, ours = case.tensors("rounded"), case.tensors("bfloat16"), case.tensors("ours_bfloat16")
    sites = [name for name in rounded if name == "logits" or name.endswith("block_output")]

    def error_of(values):
        return sum(float((values[name] - rounded[name]).norm() / rounded[name].norm()) for name in sites) / len(sites)

    error, their_error = error_of(ours), error_of(theirs)
    case.check(error <= BFLOAT16_FACTOR * their_error, f"bfloat16 error {error:.2e}, transformers' is {their_error:.2e}")
    case.check(error > 1e-4, "bfloat16 is as exact as float32: was it used?")
    return f"bfloat16 {error:.1e} against {their_error:.1e}"


def check_end(case):
    """With the model's own end token the continuation is the same, up to it."""
    tokens, stopped, end = case.json("ours")["tokens"], case.json("ours_stopped"), case.json("reference")["eos"]
    has_end = end in tokens
    case.check(stopped["tokens"] == (tokens[:tokens.index(end)] if has_end else tokens), "the end token is not obeyed")
    case.check(stopped["finish_reason"] == ("stop" if has_end else "length"), f"finish_reason is {stopped['finish_reason']}")
    return f"stopped after {len(stopped['tokens'])}" if has_end else "not stopped"


def compare_case(folder):
    case = Case(folder)
    return case.report("; ".join([case.check_sites(), check_bfloat16(case), case.check_continuation(), check_end(case)]))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        good = [compare_case(os.path.join(sys.argv[2], name)) for name in sys.argv[3:]]
        sys.exit(not all(good))
