"""The transformers side of families_test.sh.

  make WORK            random folders WORK/<family>_<number>: model/, prompt and continued (token ids), and what
                       transformers computes from them; WORK/cases lists them
  table                prints where transformers has our components, for docs/families.md
  compare WORK [CASE…] checks what our programs left there; one line a folder, exits 1 if something is off
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from peer_sites import LLAMA, Case, all_sites, write_continuation, write_ids  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

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
    """One row: how a random model is made, and where transformers has our components; what is not named is where Llama's is."""

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


WINDOW = dict(sliding_window=8)
GEMMA = dict(head_dim=16, query_pre_attn_scalar=24)

FAMILIES = {
    "qwen2": Family("Qwen2", each=({}, dict(use_sliding_window=True, sliding_window=8, max_window_layers=1), dict(rope_scaling=YARN))),
    "mistral": Family("Mistral", keys=WINDOW, each=({}, dict(head_dim=24), dict(sliding_window=None))),
    "qwen3": Family("Qwen3", keys=dict(head_dim=20)),
    "seed_oss": Family("SeedOss", keys=dict(head_dim=20)),
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
            save_file(all_sites(family.modules, model, prompt), os.path.join(folder, "reference.safetensors"))
            if family.head == "ForCausalLM":
                write_continuation(folder, model, prompt[:12], NEW_TOKENS)
            cases.append(case)
    with open(os.path.join(work, "cases"), "w") as file:
        file.write(" ".join(cases))


def compare_case(folder):
    case = Case(folder)
    line = case.check_sites()
    if os.path.exists(os.path.join(folder, "reference.json")):
        line += "; " + case.check_continuation()
    return case.report(line)


def in_words(place):
    """A place as the table has it."""
    if not place:
        return "–"
    name, part = place if isinstance(place, tuple) else (place, None)
    words = f"into `{name[1:]}`" if name.startswith("<") else f"`{name}`"
    part = {None: None, "query_by_head": "queries of all heads", "key_by_head": "keys of all heads", "value_by_head": "values of all heads"}.get(part, f"{part} columns")
    return f"{words}, {part}" if part else words


def table():
    """One column for the families that have our components in the same places."""
    groups = {}
    for family in FAMILIES.values():
        places = {component: in_words(place) for component, place in family.modules.items() if component != "base"}
        groups.setdefault(tuple(places.items()), {})[family.config.removesuffix("Text")] = f"`{family.modules['base']}`"
    columns = [(", ".join(sorted(names)), ", ".join(sorted(set(names.values()))), dict(places)) for places, names in groups.items()]
    rows = {"component": [names for names, _, _ in columns], "---": ["---"] * len(columns), "base": [base for _, base, _ in columns],
            "layers": [places["layers"] for _, _, places in columns]}
    rows["embedding_output"] = [places["embedding"] for _, _, places in columns]
    rows["block_input"] = ["into the layer"] * len(columns)
    rows["block_output"] = ["the layer"] * len(columns)
    for component in columns[0][2]:
        if component not in ("embedding", "layers", "final_norm"):
            rows[component] = [places[component] for _, _, places in columns]
    rows["head_attention_value_output"] = ["a head's columns of attention_value_output"] * len(columns)
    rows["final_norm_output"] = [places["final_norm"] for _, _, places in columns]
    rows["logits"] = ["the model's logits"] * len(columns)
    for component, cells in rows.items():
        print(" ".join(["|", component, *(f"| {cell}" for cell in cells), "|"]))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    elif sys.argv[1] == "table":
        table()
    else:
        with open(os.path.join(sys.argv[2], "cases")) as file:
            good = [compare_case(os.path.join(sys.argv[2], name)) for name in sys.argv[3:] or file.read().split()]
        sys.exit(not all(good))
