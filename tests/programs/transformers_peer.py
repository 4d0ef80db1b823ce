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
from safetensors.torch import load_file, save_file  # noqa: E402

TOLERANCE = 1e-4       # of any activation in float32, absolute
CLOSE_LOGITS = 2e-4    # a gap between the best two below which either may be chosen
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


def all_sites(model, tokens):
    """{our name of a site: what transformers has there}, the hooks standing where pyvene's stand."""
    got, handles = {}, []

    def keep(name, value):
        got[name] = (value[0] if isinstance(value, tuple) else value)[0].detach().float().clone()

    def output(module, name):
        handles.append(module.register_forward_hook(lambda m, args, kwargs, out: keep(name, out), with_kwargs=True))

    def input(module, name):
        handles.append(module.register_forward_pre_hook(
            lambda m, args, kwargs: keep(name, args[0] if args else kwargs["hidden_states"]), with_kwargs=True))

    output(model.model.embed_tokens, "embedding_output")
    output(model.model.norm, "final_norm_output")
    output(model, "logits")
    for i, layer in enumerate(model.model.layers):
        at = f"layers.{i}."
        input(layer, at + "block_input")
        output(layer, at + "block_output")
        input(layer.self_attn, at + "attention_input")
        output(layer.self_attn, at + "attention_output")
        input(layer.self_attn.o_proj, at + "attention_value_output")
        output(layer.self_attn.q_proj, at + "query_output")
        output(layer.self_attn.k_proj, at + "key_output")
        output(layer.self_attn.v_proj, at + "value_output")
        input(layer.mlp, at + "mlp_input")
        output(layer.mlp.act_fn, at + "mlp_activation")
        output(layer.mlp, at + "mlp_output")
    with torch.no_grad():
        keep("logits", model(torch.tensor([tokens])).logits)
    for handle in handles:
        handle.remove()
    heads, width = model.config.num_attention_heads, model.model.layers[0].self_attn.head_dim
    for i in range(len(model.model.layers)):
        mixed = got[f"layers.{i}.attention_value_output"]
        for head in range(heads):
            got[f"layers.{i}.head_attention_value_output.{head}"] = mixed[:, head * width:(head + 1) * width].clone()
    return got


def greedy(model, tokens):
    """New tokens, and at each the gap between the best two logits."""
    new, gaps, cache, feed = [], [], None, tokens
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            result = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            best = result.logits[0, -1].topk(2)
            new.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
            feed = new[-1:]
    return new, gaps


def write_ids(path, ids):
    with open(path, "w") as file:
        file.write(",".join(map(str, ids)))


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
    save_file(all_sites(model, prompt), os.path.join(folder, "reference.safetensors"))

    begin = prompt[:24]
    new, gaps = greedy(model, begin)
    write_ids(os.path.join(folder, "begin"), begin)
    write_ids(os.path.join(folder, "continued"), begin + new[:-1])
    with open(os.path.join(folder, "reference.json"), "w") as file:
        eos = config.get("eos_token_id")
        json.dump({"new": new, "gaps": gaps, "begin": len(begin), "eos": eos}, file)

    # The same rounded weights, computed in float32 and in bfloat16.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    save_file(all_sites(model, prompt), os.path.join(folder, "rounded.safetensors"))
    save_file(all_sites(common.load_model(path, torch.bfloat16), prompt), os.path.join(folder, "bfloat16.safetensors"))


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


def compare_case(folder):
    problems = []

    def check(good, text):
        if not good:
            problems.append(text)

    def load(name):
        return load_file(os.path.join(folder, name + ".safetensors"))

    reference, ours = load("reference"), load("ours")
    check(set(ours) == set(reference), f"sites differ: {sorted(set(ours) ^ set(reference))}")
    errors = {name: float((ours[name] - value).abs().max()) if ours[name].shape == value.shape else float("inf")
              for name, value in reference.items() if name in ours}
    for name, error in errors.items():
        check(error <= TOLERANCE, f"{name} is off by {error:.2e}")
    worst = max(errors, key=errors.get)

    # Error of all logits and block outputs, each relative to its own size, so that no site drowns the others.
    rounded, theirs, our_bfloat16 = load("rounded"), load("bfloat16"), load("ours_bfloat16")
    sites = [name for name in rounded if name == "logits" or name.endswith("block_output")]

    def error_of(values):
        return sum(float((values[name] - rounded[name]).norm() / rounded[name].norm()) for name in sites) / len(sites)

    check(error_of(our_bfloat16) <= BFLOAT16_FACTOR * error_of(theirs),
          f"bfloat16 error {error_of(our_bfloat16):.2e}, transformers' is {error_of(theirs):.2e}")
    check(error_of(our_bfloat16) > 1e-4, "bfloat16 is as exact as float32: was it used?")

    with open(os.path.join(folder, "reference.json")) as file:
        expected = json.load(file)
    new, gaps = expected["new"], expected["gaps"]
    with open(os.path.join(folder, "ours.json")) as file:
        ours_new = json.load(file)["tokens"]
    close = next((step for step, gap in enumerate(gaps) if gap < CLOSE_LOGITS), len(new))
    check(len(ours_new) == len(new), f"{len(ours_new)} new tokens, expected {len(new)}")
    check(ours_new[:close] == new[:close], f"the continuation differs before step {close}")
    # The rest, and the whole of it without a cache: what we would choose after the reference's tokens.
    choices = load("ours_forced")["logits"][expected["begin"] - 1:].argmax(1).tolist()
    wrong = [step for step, gap in enumerate(gaps) if gap >= CLOSE_LOGITS and choices[step] != new[step]]
    check(not wrong, f"teacher-forced, the choice differs at steps {wrong}")

    # With the model's own end token the continuation is the same, up to it.
    with open(os.path.join(folder, "ours_stopped.json")) as file:
        stopped = json.load(file)
    has_end = expected["eos"] in ours_new
    check(stopped["tokens"] == (ours_new[:ours_new.index(expected["eos"])] if has_end else ours_new), "the end token is not obeyed")
    check(stopped["finish_reason"] == ("stop" if has_end else "length"), f"finish_reason is {stopped['finish_reason']}")

    print(f"{os.path.basename(folder)}: {len(errors)} sites, logits {errors.get('logits', 0):.1e}, worst {errors[worst]:.1e} ({worst}); "
          f"bfloat16 {error_of(our_bfloat16):.1e} against {error_of(theirs):.1e}; {min(close, len(new))} of {len(new)} tokens equal"
          f"{', stopped after ' + str(len(stopped['tokens'])) if has_end else ''}")
    for problem in problems[:5]:
        print(f"  {problem}")
    return not problems


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        good = [compare_case(os.path.join(sys.argv[2], name)) for name in sys.argv[3:]]
        sys.exit(not all(good))
