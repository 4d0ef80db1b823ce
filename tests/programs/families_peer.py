"""The transformers side of families_test.sh.

  make WORK            random folders WORK/<family>_<number>: model/, prompt and continued (token ids), and what
                       transformers computes from them; WORK/cases lists them
  compare WORK         checks what our programs left there; one line a folder, exits 1 if something is off
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

TOLERANCE = 1e-4     # of any activation in float32, absolute
CLOSE_LOGITS = 2e-4  # a gap between the best two below which either may be chosen
NEW_TOKENS = 100

SIZES = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=400, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)
# Three shapes a family: the second is wider and untied where the family can be, the third narrow and in shards.
SHAPES = [{}, dict(hidden_size=96, num_attention_heads=6, num_key_value_heads=3, tie_word_embeddings=False, vocab_size=333),
          dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True, intermediate_size=72)]

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=24)


def long_rope(width):
    return dict(type="longrope", short_factor=[1.0 + 0.01 * i for i in range(width)],
                long_factor=[1.5 + 0.4 * i for i in range(width)])


class Family:
    """One row: how a random model is made, and where transformers has our components. A layer's modules are named from
    the layer on; "x" is a module's output, "<x" its input."""

    def __init__(self, config, keys=None, drop=(), each=({}, {}, {}), head="ForCausalLM", eager=False, **modules):
        self.config, self.keys, self.drop, self.each, self.head, self.eager = config, keys or {}, drop, each, head, eager
        self.modules = {**LLAMA, **modules}

    def model(self, number):
        sizes = {key: value for key, value in {**SIZES, **SHAPES[number], **self.keys, **self.each[number]}.items() if key not in self.drop}
        if self.config.startswith("DistilBert"):
            names = dict(hidden_size="dim", intermediate_size="hidden_dim", num_hidden_layers="n_layers", num_attention_heads="n_heads")
            sizes = {names.get(key, key): value for key, value in sizes.items()}
        config = getattr(transformers, self.config + "Config")(**sizes)
        if self.eager:
            config._attn_implementation = "eager"
        stem = self.config.removesuffix("Text")
        torch.manual_seed(100 + number)
        name = "GPT2LMHeadModel" if stem + self.head == "GPT2ForCausalLM" else stem + self.head
        model = getattr(transformers, name)(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() >= 2:
                    embeds = any(part in name for part in ("embed", "wte", "wpe"))
                    parameter.normal_(0.0, 0.5 if embeds else parameter.shape[-1] ** -0.5)
                elif name.endswith("bias"):
                    parameter.normal_(0.0, 0.1)
                else:
                    parameter.normal_(0.0 if "Gemma" in self.config else 1.0, 0.2)
            model.tie_weights()
        return model.eval()


LLAMA = dict(base="model", embedding="<layers.0", layers="layers", final_norm="norm", attention_input="<self_attn", attention_output="self_attn",
             attention_value_output="<self_attn.o_proj", query_output="self_attn.q_proj", key_output="self_attn.k_proj",
             value_output="self_attn.v_proj", mlp_input="<mlp", mlp_activation="mlp.act_fn", mlp_output="mlp")
WINDOW = dict(sliding_window=8)
GEMMA = dict(head_dim=16, query_pre_attn_scalar=24)

FAMILIES = {
    "qwen2": Family("Qwen2", each=({}, dict(use_sliding_window=True, sliding_window=8, max_window_layers=1), dict(rope_scaling=YARN))),
    "mistral": Family("Mistral", keys=WINDOW, each=({}, dict(head_dim=24), dict(sliding_window=None))),
    "qwen3": Family("Qwen3", keys=dict(head_dim=20)),
    "gemma": Family("Gemma", keys=dict(head_dim=16)),
    "gemma2": Family("Gemma2", keys={**GEMMA, **WINDOW}, eager=True, each=({}, dict(attn_logit_softcapping=5.0, final_logit_softcapping=3.0), {})),
    "gemma3": Family("Gemma3Text", keys={**GEMMA, **WINDOW}, each=(dict(num_hidden_layers=7), dict(sliding_window_pattern=2),
                                                               dict(rope_scaling=dict(rope_type="linear", factor=4.0), sliding_window_pattern=3))),
    "phi3": Family("Phi3", mlp_activation="mlp.activation_fn", query_output=("self_attn.qkv_proj", "query"), key_output=("self_attn.qkv_proj", "key"),
                   value_output=("self_attn.qkv_proj", "value"),
                   each=({}, dict(sliding_window=9, partial_rotary_factor=0.5),
                         dict(rope_scaling=long_rope(8), max_position_embeddings=256, original_max_position_embeddings=160))),
    "smollm3": Family("SmolLM3", keys=dict(num_hidden_layers=5),
                      each=({}, dict(use_sliding_window=True, sliding_window=8), dict(no_rope_layers=[1, 0, 0, 1, 1]))),
    "olmo2": Family("Olmo2"),
    "gpt2": Family("GPT2", keys=dict(resid_pdrop=0.0), drop=("intermediate_size", "num_key_value_heads"), each=({}, dict(n_inner=100), dict(scale_attn_weights=True)),
                   base="transformer", embedding="<h.0", layers="h", final_norm="ln_f", attention_input="<attn", attention_output="attn",
                   attention_value_output="<attn.c_proj", query_output=("attn.c_attn", "query"), key_output=("attn.c_attn", "key"),
                   value_output=("attn.c_attn", "value"), mlp_activation="mlp.act"),
    "gpt_neox": Family("GPTNeoX", drop=("num_key_value_heads",), each=({}, dict(use_parallel_residual=False), dict(rotary_pct=0.5)),
                       base="gpt_neox", final_norm="final_layer_norm", attention_input="<attention", attention_output="attention",
                       attention_value_output="<attention.dense", query_output=("attention.query_key_value", "query_by_head"),
                       key_output=("attention.query_key_value", "key_by_head"), value_output=("attention.query_key_value", "value_by_head"),
                       mlp_activation="mlp.act"),
    "mixtral": Family("Mixtral", keys=dict(num_local_experts=4, num_experts_per_tok=2),
                      mlp_input="<block_sparse_moe", mlp_output="block_sparse_moe", mlp_activation=None),
}

BERT = dict(base="bert", layers="encoder.layer", embedding="<encoder.layer.0", final_norm=None, attention_input="<attention.self", attention_output="attention.output.dense",
            attention_value_output="<attention.output.dense", query_output="attention.self.query", key_output="attention.self.key",
            value_output="attention.self.value", mlp_input="<intermediate", mlp_activation="intermediate.intermediate_act_fn", mlp_output="output.dense")
DISTILBERT = dict(base="distilbert", layers="transformer.layer", embedding="<transformer.layer.0", final_norm=None, attention_input="<attention.q_lin",
                  attention_output="attention.out_lin", attention_value_output="<attention.out_lin", query_output="attention.q_lin", key_output="attention.k_lin",
                  value_output="attention.v_lin", mlp_input="<ffn", mlp_activation="ffn.activation", mlp_output="ffn")
for task, head in (("masked", "ForMaskedLM"), ("classify", "ForSequenceClassification")):
    labels = ({}, dict(num_labels=5), dict(num_labels=1)) if task == "classify" else ({}, {}, {})
    FAMILIES[f"bert_{task}"] = Family("Bert", drop=("num_key_value_heads",), head=head, each=labels, **BERT)
    FAMILIES[f"roberta_{task}"] = Family("Roberta", drop=("num_key_value_heads",), head=head, each=labels, keys=dict(pad_token_id=1), **{**BERT, "base": "roberta"})
    FAMILIES[f"distilbert_{task}"] = Family("DistilBert", head=head, each=labels, drop=("num_key_value_heads",), **DISTILBERT)
for name, source in (("llama", None), ("gpt2", "gpt2"), ("qwen2", "qwen2")):  # a decoder reads its last token
    row = FAMILIES[source] if source else Family("Llama")
    FAMILIES[f"{name}_classify"] = Family(row.config, keys=row.keys, drop=row.drop, head="ForSequenceClassification",
                                          each=({}, dict(num_labels=5), dict(num_labels=1)), **row.modules)


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


def all_sites(family, model, tokens):
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
            handles.append(module.register_forward_pre_hook(lambda m, args, kwargs: keep(args[0] if args else kwargs["hidden_states"]), with_kwargs=True))
        else:
            handles.append(module.register_forward_hook(lambda m, args, kwargs, out: keep(out), with_kwargs=True))

    modules = dict(family.modules)
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


def make(work):
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    cases = []
    for name, family in FAMILIES.items():
        for number in range(3):
            case = f"{name}_{number}"
            folder = os.path.join(work, case)
            model = family.model(number)
            model.save_pretrained(os.path.join(folder, "model"), max_shard_size="60KB" if number == 2 else "5GB")
            assert os.path.exists(os.path.join(folder, "model/model.safetensors.index.json")) == (number == 2)
            generator = torch.Generator().manual_seed(number)
            # Longer than every window here. Where rope scaling has an original context, the third is longer than that.
            length = 200 if name == "phi3" and number == 2 else 40
            prompt = torch.randint(3, model.config.vocab_size, (length,), generator=generator).tolist()
            write_ids(os.path.join(folder, "prompt"), prompt)
            save_file(all_sites(family, model, prompt), os.path.join(folder, "reference.safetensors"))
            begin = prompt[:12]
            if family.head == "ForCausalLM":
                new, gaps = greedy(model, begin)
                write_ids(os.path.join(folder, "begin"), begin)
                write_ids(os.path.join(folder, "continued"), begin + new[:-1])
                with open(os.path.join(folder, "reference.json"), "w") as file:
                    json.dump({"new": new, "gaps": gaps, "begin": len(begin)}, file)
            cases.append(case)
    with open(os.path.join(work, "cases"), "w") as file:
        file.write(" ".join(cases))


def compare_case(folder):
    problems = []

    def check(good, text):
        if not good:
            problems.append(text)

    reference, ours = load_file(os.path.join(folder, "reference.safetensors")), load_file(os.path.join(folder, "ours.safetensors"))
    check(set(ours) == set(reference), f"sites differ: {sorted(set(ours) ^ set(reference))[:5]}")
    errors = {name: float((ours[name] - value).abs().max()) if ours[name].shape == value.shape else float("inf")
              for name, value in reference.items() if name in ours}
    for name, error in errors.items():
        check(error <= TOLERANCE, f"{name} is off by {error:.2e}")
    worst = max(errors, key=errors.get)
    line = f"{os.path.basename(folder)}: {len(errors)} sites, logits {errors.get('logits', 0):.1e}, worst {errors[worst]:.1e} ({worst})"
    if os.path.exists(os.path.join(folder, "reference.json")):
        with open(os.path.join(folder, "reference.json")) as file:
            expected = json.load(file)
        new, gaps = expected["new"], expected["gaps"]
        with open(os.path.join(folder, "ours.json")) as file:
            ours_new = json.load(file)["tokens"]
        close = next((step for step, gap in enumerate(gaps) if gap < CLOSE_LOGITS), len(new))
        check(len(ours_new) == len(new), f"{len(ours_new)} new tokens, expected {len(new)}")
        check(ours_new[:close] == new[:close], f"the continuation differs before step {close}")
        choices = load_file(os.path.join(folder, "ours_forced.safetensors"))["logits"][expected["begin"] - 1:].argmax(1).tolist()
        wrong = [step for step, gap in enumerate(gaps) if gap >= CLOSE_LOGITS and choices[step] != new[step]]
        check(not wrong, f"teacher-forced, the choice differs at steps {wrong}")
        line += f"; {min(close, len(new))} of {len(new)} tokens equal"
    print(line)
    for problem in problems[:5]:
        print(f"  {problem}")
    return not problems


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        with open(os.path.join(sys.argv[2], "cases")) as file:
            good = [compare_case(os.path.join(sys.argv[2], name)) for name in file.read().split()]
        sys.exit(not all(good))
