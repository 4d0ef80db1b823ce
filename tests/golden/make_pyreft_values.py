#!/usr/bin/env python3
"""Writes what pyreft's six interventions compute: the values and gradients tests/golden/values_test.cpp compares with.

    python make_pyreft_values.py [OUTPUT.safetensors] [--full]     torch 2.13.0, transformers 4.57.6, pyreft 0.1.0

Each case has its own seed, and a name <form>/<D>/<r>/<activation>/<dtype of h>. Of each it holds h (P, D), the gradient g
(P, D) that arrives from above, R_start (r, D), X (r, D), R (r, D), W (r, D), b (r), c (r) as the form has them, and
output (P, D), grad.h, grad.X, grad.W, grad.b, grad.R, grad.c, twice: what pyreft's modules give when they compute in
float64 from these numbers and, after "pyreft.", what they give in their own dtypes. The base of pyreft's
parametrization is the completion of R_start that a QR decomposition gives, as in include/reft/tensor/householder.hpp; X
is moved away from zero. --full: every size and activation, some 100 MB; without it, what is small enough to be kept.
"""
import argparse
import contextlib
import io
import os
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from safetensors.torch import save_file

with contextlib.redirect_stdout(io.StringIO()):
    import pyreft  # noqa: F401  (its interventions need it to be imported first)
from pyreft.interventions import (ConsreftIntervention, DireftIntervention, LobireftIntervention, LoreftIntervention,
                                  NodireftIntervention, NoreftIntervention)

FORMS = {"loreft": LoreftIntervention, "consreft": ConsreftIntervention, "lobireft": LobireftIntervention,
         "ortho_direft": DireftIntervention, "noreft": NoreftIntervention, "direft": NodireftIntervention}
CONSTANT = ("consreft", "lobireft")
FREE = ("noreft", "direft")
ROWS = 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def cases(full):
    sizes = [(64, 1), (64, 4), (64, 8)] + ([(width, rank) for width in (2048, 4096) for rank in (1, 4, 8)] if full else [])
    activations = ["linear", "relu", "gelu", "gelu_new", "silu", "tanh"] if full else ["linear", "gelu_new"]
    for form in FORMS:
        for width, rank in sizes + ([(64, 64)] if full and form not in FREE else []):
            for activation in ["linear"] if form in CONSTANT else activations:
                for dtype in DTYPES:
                    yield form, width, rank, activation, dtype


def complete(R_start):
    """(D, D) orthogonal, its first r columns the rows of R_start."""
    Q = torch.linalg.qr(R_start.T, mode="complete").Q
    Q[:, :len(R_start)] = R_start.T
    return Q.float()


def place(module, rank, width):
    """Gives R a start of the case's own and moves X away from it; what reft needs to begin at the same place."""
    parametrization = module.rotate_layer.parametrizations.weight
    R_start = torch.linalg.qr(torch.randn(width, rank, dtype=torch.float64))[0].T.contiguous()
    move = (torch.randn(width, rank) * width**-0.5).tril(-1)
    with torch.no_grad():
        parametrization[0].base.copy_(complete(R_start))
        if rank == width:  # the matrix exponential: the identity at 0
            parametrization.original.copy_(0.3 * move)
        else:
            parametrization.original.copy_(move)
            parametrization.original.diagonal().fill_(-1.0)
    return R_start.float(), move.T


def compute(form, width, rank, activation, dtype):
    torch.manual_seed(zlib.crc32(f"{form}/{width}/{rank}/{activation}/{dtype}".encode()))
    module = FORMS[form](embed_dim=width, low_rank_dimension=rank, dtype=DTYPES[dtype], add_bias=form == "noreft",
                         act_fn=None if activation == "linear" else activation)
    kept = {}
    if form not in FREE:
        kept["R_start"], kept["X"] = place(module, rank, width)
        kept["R"] = module.rotate_layer.weight.T
    kept.update({name: leaf for name, leaf in leaves(module).items() if name != "X"})
    kept.update(h=torch.randn(ROWS, width).to(DTYPES[dtype]), g=torch.randn(ROWS, width).to(DTYPES[dtype]))
    kept.update({f"pyreft.{name}": tensor for name, tensor in run(module, kept["h"], kept["g"]).items()})
    exact = run(module.double(), kept["h"].double(), kept["g"].double())
    kept.update({name: tensor.float() for name, tensor in exact.items()})
    return {name: tensor.detach().contiguous().clone() for name, tensor in kept.items()}


def run(module, h, g):
    """The output and the gradients of h and of every parameter, under reft's names."""
    h = h.detach().clone().requires_grad_()
    module.zero_grad(set_to_none=True)
    output = module(h)
    output.backward(g)
    found = {"output": output, "grad.h": h.grad}
    for name, leaf in leaves(module).items():
        found[f"grad.{name}"] = leaf.grad.T.clone() if name == "X" else leaf.grad.clone()
    return found


def leaves(module):
    """What reft calls X or R, W, b and c. At r = D torch's X is another one, and so has no counterpart."""
    source = module.learned_source
    found = {"W": source.weight, "b": source.bias} if isinstance(source, torch.nn.Linear) else {"b": source}
    if not hasattr(module, "proj_layer"):
        original = module.rotate_layer.parametrizations.weight.original
        return found if original.shape[0] == original.shape[1] else found | {"X": original}
    found["R"] = module.proj_layer.weight
    return found | {"c": module.proj_layer.bias} if module.proj_layer.bias is not None else found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("output", nargs="?", default=os.path.join(here, "pyreft_values.safetensors"))
    parser.add_argument("--full", action="store_true")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    kept = {}
    for case in cases(settings.full):
        for name, tensor in compute(*case).items():
            kept["/".join(map(str, case)) + "/" + name] = tensor
    save_file(kept, settings.output, metadata={"torch": torch.__version__, "transformers": transformers.__version__,
                                               "pyreft": "0.1.0", "pyvene": "0.1.8"})


main()
