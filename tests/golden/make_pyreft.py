#!/usr/bin/env python3
"""Writes tests/golden/pyreft: folders saved by pyreft itself, and what pyreft computes with them.

    python make_pyreft.py [OUTPUT]        torch 2.13.0, transformers 4.57.6, pyreft 0.1.0, pyvene 0.1.8

base/            a random Llama of width 24 with two layers
<form>/          pyreft's own save of each of its six classes at both layers, one module for f2 and one for l2;
                 R has been moved away from its start, as training does
<form>_trainer/  what pyreft's trainer leaves: no config.json, an empty pytorch_model.bin
classifier/      the head of a Llama of the same shape with three classes: pytorch_model.bin as pyreft's trainer saves it,
                 and the same values in expected.safetensors
expected.safetensors   per form `<form>/logits` (T, V) and the evaluated `<form>/<key>/R` (r, D), W, b, c
versions.json    what wrote it
"""
import contextlib
import io
import json
import os
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from safetensors.torch import save_file

with contextlib.redirect_stdout(io.StringIO()):
    import pyreft
    import pyvene
from pyreft.interventions import (ConsreftIntervention, DireftIntervention, LobireftIntervention, LoreftIntervention,
                                  NodireftIntervention, NoreftIntervention)

FORMS = {"loreft": LoreftIntervention, "consreft": ConsreftIntervention, "lobireft": LobireftIntervention,
         "ortho_direft": DireftIntervention, "noreft": NoreftIntervention, "direft": NodireftIntervention}
RANK, POSITIONS, TOKENS = 3, "f2+l2", [1, 7, 30, 2, 19, 38, 4, 11, 25]


def make_base():
    torch.manual_seed(11)
    config = transformers.LlamaConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=40, max_position_embeddings=64, tie_word_embeddings=True)
    base = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10)
    return base


def make_reft(base, form, width):
    def intervention():
        return form(embed_dim=width, low_rank_dimension=RANK, dtype=torch.float32, add_bias=True)
    layers = [0, 1]
    rows = [{"layer": layer, "component": "block_output", "low_rank_dimension": RANK, "intervention": intervention()}
            for layer in layers + layers]
    reft = pyreft.get_reft_model(base, pyreft.ReftConfig(representations=rows))
    with torch.no_grad():
        for parameter in reft.interventions.parameters():
            step = 0.2 * torch.randn_like(parameter)
            if parameter.shape == (width, RANK):  # its diagonal never gets a gradient
                step.fill_diagonal_(0)
            parameter.add_(step)
    return reft


def tensors(intervention):
    """What reft calls R (r, D), W (r, D), b (r) and c (r)."""
    source = intervention.learned_source
    linear = isinstance(source, torch.nn.Linear)
    found = {"b": source.bias if linear else source}
    if linear:
        found["W"] = source.weight
    if hasattr(intervention, "proj_layer"):
        found["R"] = intervention.proj_layer.weight
        if isinstance(intervention, NoreftIntervention):
            found["c"] = intervention.proj_layer.bias
    else:
        found["R"] = intervention.rotate_layer.weight.T
    return {name: tensor.detach().float().contiguous().clone() for name, tensor in found.items()}


def save_classifier(config, output):
    """Only the head's file is kept; the interventions beside it are as elsewhere."""
    torch.manual_seed(13)
    shape = {key: value for key, value in config.to_dict().items() if key not in ("id2label", "label2id")}
    base = transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**shape, num_labels=3))
    reft = make_reft(base, LoreftIntervention, config.hidden_size)
    reft.model.score.weight.requires_grad_(True)
    folder = os.path.join(output, "classifier")
    with contextlib.redirect_stdout(io.StringIO()):
        reft.save_intervention(folder, include_model=True)
    for name in os.listdir(folder):
        if name != "pytorch_model.bin":
            os.remove(os.path.join(folder, name))
    save_file({"score.weight": reft.model.score.weight.detach().clone()}, os.path.join(folder, "expected.safetensors"))


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyreft")
    shutil.rmtree(output, ignore_errors=True)
    base = make_base()
    base.save_pretrained(os.path.join(output, "base"))
    os.remove(os.path.join(output, "base", "generation_config.json"))
    expected = {}
    for name, form in FORMS.items():
        torch.manual_seed(12)
        reft = make_reft(base, form, base.config.hidden_size)
        folder = os.path.join(output, name)
        with contextlib.redirect_stdout(io.StringIO()):
            reft.save(folder)
        where = pyreft.get_intervention_locations(last_position=len(TOKENS), positions=POSITIONS, num_interventions=4)
        with torch.no_grad():
            _, result = reft({"input_ids": torch.tensor([TOKENS])},
                             unit_locations={"sources->base": (None, [[positions] for positions in where])})
        expected[f"{name}/logits"] = result.logits[0].contiguous()
        for key, intervention in reft.interventions.items():
            for tensor_name, tensor in tensors(intervention).items():
                expected[f"{name}/{key}/{tensor_name}"] = tensor
        if name == "loreft":
            with contextlib.redirect_stdout(io.StringIO()):
                reft.save_intervention(folder + "_trainer", include_model=True)
    save_classifier(base.config, output)
    save_file(expected, os.path.join(output, "expected.safetensors"))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "pyreft": "0.1.0", "pyvene": "0.1.8",
                "rank": RANK, "positions": POSITIONS, "tokens": TOKENS}
    with open(os.path.join(output, "versions.json"), "w") as file:
        json.dump(versions, file, indent=1)
        file.write("\n")


main()
