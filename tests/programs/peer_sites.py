"""What families_peer.py and transformers_peer.py share: where transformers has our sites, and how one case is written and
compared. A case is a folder: prompt, begin and continued (token ids), what transformers computes from them
(reference.safetensors, reference.json) and what our programs do (ours…)."""
import json
import os

import torch
from safetensors.torch import load_file

TOLERANCE = 1e-4     # of any activation in float32, absolute
CLOSE_LOGITS = 2e-4  # a gap between the best two below which either may be chosen

# Where transformers has our components. A layer's modules are named from the layer on; "x" is a module's output, "<x" its input.
LLAMA = dict(base="model", embedding="<layers.0", layers="layers", final_norm="norm", attention_input="<self_attn", attention_output="self_attn",
             attention_value_output="<self_attn.o_proj", query_output="self_attn.q_proj", key_output="self_attn.k_proj",
             value_output="self_attn.v_proj", mlp_input="<mlp", mlp_activation="mlp.act_fn", mlp_output="mlp")


def part_of(value, part, config):
    """Our query, key or value columns of a fused projection's output (T, columns)."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if part.endswith("_by_head"):
        index = ["query", "key", "value"].index(part.removesuffix("_by_head"))
        return value.view(-1, heads, 3, width)[:, :, index].flatten(1)
    first, count = {"query": (0, heads), "key": (heads, groups), "value": (heads + groups, groups)}[part]
    return value[:, first * width:(first + count) * width]


def all_sites(modules, model, tokens):
    """{our name of a site: what transformers has there}."""
    got, handles = {}, []

    def watch(root, place, name):
        place, part = place if isinstance(place, tuple) else (place, None)

        def keep(value):
            value = (value[0] if isinstance(value, tuple) else value).detach().float().clone()
            value = value[0] if value.dim() == 3 else value
            got[name] = part_of(value, part, model.config).clone() if part else value

        module = root.get_submodule(place.removeprefix("<"))
        if place.startswith("<"):
            handles.append(module.register_forward_pre_hook(
                lambda m, args, kwargs: keep(args[0] if args else kwargs["hidden_states"]), with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(lambda m, args, kwargs, out: keep(out), with_kwargs=True))

    modules = dict(modules)
    base = model.get_submodule(modules.pop("base"))
    watch(base, modules.pop("embedding"), "embedding_output")
    if (norm := modules.pop("final_norm")):
        watch(base, norm, "final_norm_output")
    layers = base.get_submodule(modules.pop("layers"))
    for i, layer in enumerate(layers):
        watch(layer, "<", f"layers.{i}.block_input")
        watch(layer, "", f"layers.{i}.block_output")
        for component, place in modules.items():
            if place:
                watch(layer, place, f"layers.{i}.{component}")
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits.float()
        got["logits"] = logits.squeeze(0).clone() if logits.dim() == 3 else logits.clone()
    for handle in handles:
        handle.remove()
    heads = model.config.num_attention_heads
    for i in range(len(layers)):
        mixed = got[f"layers.{i}.attention_value_output"]
        for head, columns in enumerate(mixed.chunk(heads, 1)):
            got[f"layers.{i}.head_attention_value_output.{head}"] = columns.clone()
    return got


def greedy(model, tokens, count):
    """`count` new tokens, and at each the gap between the best two logits."""
    new, gaps, cache, feed = [], [], None, tokens
    with torch.no_grad():
        for _ in range(count):
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


def write_continuation(folder, model, begin, count, **more):
    """What the model chooses after `begin`, for our programs to choose and to be forced along."""
    new, gaps = greedy(model, begin, count)
    write_ids(os.path.join(folder, "begin"), begin)
    write_ids(os.path.join(folder, "continued"), begin + new[:-1])
    with open(os.path.join(folder, "reference.json"), "w") as file:
        json.dump({"new": new, "gaps": gaps, "begin": len(begin), **more}, file)


class Case:
    """Compares the files of one folder; collects what is off."""

    def __init__(self, folder):
        self.folder, self.problems = folder, []

    def check(self, good, text):
        if not good:
            self.problems.append(text)

    def tensors(self, name):
        return load_file(os.path.join(self.folder, name + ".safetensors"))

    def json(self, name):
        with open(os.path.join(self.folder, name + ".json")) as file:
            return json.load(file)

    def check_sites(self):
        """Every site in float32.   Returns a line about it."""
        reference, ours = self.tensors("reference"), self.tensors("ours")
        self.check(set(ours) == set(reference), f"sites differ: {sorted(set(ours) ^ set(reference))[:5]}")
        errors = {name: float((ours[name] - value).abs().max()) if ours[name].shape == value.shape else float("inf")
                  for name, value in reference.items() if name in ours}
        for name, error in errors.items():
            self.check(error <= TOLERANCE, f"{name} is off by {error:.2e}")
        worst = max(errors, key=errors.get)
        return f"{os.path.basename(self.folder)}: {len(errors)} sites, logits {errors.get('logits', 0):.1e}, worst {errors[worst]:.1e} ({worst})"

    def check_continuation(self):
        """The greedy continuation: ours up to the first close choice, and the rest, all of it without a cache, after the
        reference's tokens.   Returns a line about it."""
        expected, ours = self.json("reference"), self.json("ours")["tokens"]
        new, gaps = expected["new"], expected["gaps"]
        close = next((step for step, gap in enumerate(gaps) if gap < CLOSE_LOGITS), len(new))
        self.check(len(ours) == len(new), f"{len(ours)} new tokens, expected {len(new)}")
        self.check(ours[:close] == new[:close], f"the continuation differs before step {close}")
        choices = self.tensors("ours_forced")["logits"][expected["begin"] - 1:].argmax(1).tolist()
        wrong = [step for step, gap in enumerate(gaps) if gap >= CLOSE_LOGITS and choices[step] != new[step]]
        self.check(not wrong, f"teacher-forced, the choice differs at steps {wrong}")
        return f"{min(close, len(new))} of {len(new)} tokens equal"

    def report(self, line):
        """Prints it and what is off.   Returns whether nothing is."""
        print(line)
        for problem in self.problems[:5]:
            print(f"  {problem}")
        return not self.problems
