#!/usr/bin/env python3
"""Writes what pyvene's interchange interventions compute: the numbers tests/golden/pyvene_test.cpp compares with.

    python make_pyvene.py [OUTPUT.safetensors]        torch 2.13.0, transformers 4.57.6, pyvene 0.1.8

das/<r>/      LowRankRotatedSpaceIntervention of rank r at D = 24: h, s, g (5, D) in float32, the gradient g arriving from
              above; R_start, X (r, D), where R began and how far X moved; R (r, D), output, grad.h (5, D) and grad.X (r, D)
              as the module computes them in float64
run/          logits (T, V) of tests/golden/pyreft/base on base_ids (T) with hidden states of source_ids (S) at
              layers.0.block_output: `interchange` of f2+l1 by VanillaIntervention, `das` of l1 by the rotation R (3, D)
"""
import contextlib
import io
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from safetensors.torch import save_file

with contextlib.redirect_stdout(io.StringIO()):
    import pyvene

WIDTH, ROWS = 24, 5
BASE_IDS, SOURCE_IDS = [1, 7, 30, 2, 19, 38, 4, 11, 25], [1, 22, 9, 9, 35, 14]


def rotation(rank):
    """The module with a start of its own and X moved away from it; the base is R_start's completion by a QR decomposition."""
    module = pyvene.LowRankRotatedSpaceIntervention(embed_dim=WIDTH, low_rank_dimension=rank)
    parametrization = module.rotate_layer.parametrizations.weight
    R_start = torch.linalg.qr(torch.randn(WIDTH, rank, dtype=torch.float64))[0].T.contiguous()
    base, _ = torch.linalg.qr(R_start.T, mode="complete")
    base[:, :rank] = R_start.T
    move = (0.2 * torch.randn(WIDTH, rank)).tril(-1)
    with torch.no_grad():
        parametrization[0].base.copy_(base)
        parametrization.original.copy_(move)
        parametrization.original.diagonal().fill_(-1.0)
    return module, R_start, move.T


def das(rank):
    torch.manual_seed(100 + rank)
    module, R_start, X = rotation(rank)
    module = module.double()
    h, s, g = torch.randn(3, ROWS, WIDTH).unbind()
    leaf = h.double().requires_grad_()
    output = module(leaf, s.double())
    output.backward(g.double())
    return {"h": h, "s": s, "g": g, "R_start": R_start, "X": X, "R": module.rotate_layer.weight.T, "output": output, "grad.h": leaf.grad,
            "grad.X": module.rotate_layer.parametrizations.weight.original.grad.T}


def run(base, intervention, source_positions, base_positions):
    config = pyvene.IntervenableConfig([{"layer": 0, "component": "block_output", "intervention": intervention}])
    model = pyvene.IntervenableModel(config, model=base)
    _, output = model({"input_ids": torch.tensor([BASE_IDS])}, [{"input_ids": torch.tensor([SOURCE_IDS])}],
                      {"sources->base": ([[source_positions]], [[base_positions]])})
    return output.logits[0]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    kept = {f"das/{rank}/{name}": tensor for rank in (1, 3, 8) for name, tensor in das(rank).items()}
    base = transformers.LlamaForCausalLM.from_pretrained(os.path.join(here, "pyreft", "base"), dtype=torch.float32).eval()
    torch.manual_seed(7)
    module, _, _ = rotation(3)
    with torch.no_grad():
        plain = base(torch.tensor([BASE_IDS])).logits[0]
        runs = {"interchange": run(base, pyvene.VanillaIntervention(embed_dim=WIDTH), [0, 1, 5], [0, 1, 8]),
                "das": run(base, module, [5], [8])}
        assert all((logits - plain).abs().max() > 0.1 for logits in runs.values())
        kept.update({f"run/{name}": logits for name, logits in runs.items()})
        kept["run/R"] = module.rotate_layer.weight.T
    kept.update({"run/base_ids": torch.tensor(BASE_IDS), "run/source_ids": torch.tensor(SOURCE_IDS)})
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "pyvene.safetensors")
    save_file({name: (tensor.float() if tensor.is_floating_point() else tensor).detach().contiguous().clone() for name, tensor in kept.items()},
              output, metadata={"torch": torch.__version__, "transformers": transformers.__version__, "pyvene": "0.1.8"})


main()
