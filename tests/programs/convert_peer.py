"""Compares what convert wrote with what pyreft makes of it.

    convert_peer.py WORK GOLDEN FORM...   logits here and there of WORK/<form>.reft and WORK/<form>.pyreft
    convert_peer.py --close A B LIMIT     two safetensors files hold the same tensors, within an absolute limit
"""
import contextlib
import io
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file

CLASSES = {"loreft": "Loreft", "consreft": "Consreft", "lobireft": "Lobireft", "ortho_direft": "Direft", "noreft": "Noreft",
           "direft": "Nodireft"}
NO_ADD_BIAS = {"noreft", "direft"}  # pyreft's own loader cannot make these


def close(a, b, limit):
    a, b = load_file(a), load_file(b)
    assert a.keys() == b.keys(), (sorted(a), sorted(b))
    for name in a:
        difference = (a[name] - b[name]).abs().max().item()
        assert difference < float(limit), f"{name} differs by {difference}"


def rebuild(pyreft, base, folder, form):
    """pyreft's modules in float32, filled by their own load_state_dict."""
    config = json.load(open(os.path.join(folder, "config.json")))
    make = getattr(pyreft.interventions, CLASSES[form] + "Intervention")
    rows = [{"layer": row[0], "component": row[1], "low_rank_dimension": row[4],
             "intervention": make(embed_dim=base.config.hidden_size, low_rank_dimension=row[4], dtype=torch.float32,
                                  add_bias=form == "noreft")} for row in config["representations"]]
    reft = pyreft.get_reft_model(base, pyreft.ReftConfig(representations=rows))
    for key, intervention in reft.interventions.items():
        intervention.load_state_dict(torch.load(os.path.join(folder, f"intkey_{key}.bin"), weights_only=True))
    return reft


def main(work, golden, forms):
    import transformers
    with contextlib.redirect_stdout(io.StringIO()):
        import pyreft
        import pyreft.interventions
    versions = json.load(open(os.path.join(golden, "versions.json")))
    expected = load_file(os.path.join(golden, "expected.safetensors"))
    head = torch.load(os.path.join(work, "head.pyreft", "pytorch_model.bin"), weights_only=True)
    pyrefts = load_file(os.path.join(golden, "classifier", "expected.safetensors"))
    assert head.keys() == pyrefts.keys() and all(torch.equal(head[name], pyrefts[name]) for name in head), "the head's values"
    where = pyreft.get_intervention_locations(last_position=len(versions["tokens"]), positions=versions["positions"], num_interventions=4)
    for form in forms:
        base = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(golden, "base")).eval()
        folder = os.path.join(work, form + ".pyreft")

        def logits(reft):
            with torch.no_grad():
                _, output = reft({"input_ids": torch.tensor([versions["tokens"]])},
                                 unit_locations={"sources->base": (None, [[positions] for positions in where])})
            return output.logits[0]

        ours = load_file(os.path.join(work, form + ".logits.safetensors"))["logits"]
        found = {"reft": (ours - expected[form + "/logits"]).abs().max().item(),
                 "pyreft": (logits(rebuild(pyreft, base, folder, form)) - expected[form + "/logits"]).abs().max().item()}
        assert max(found.values()) < 1e-5, f"{form}: logits differ by {found}"
        if form not in NO_ADD_BIAS:
            rounded = rebuild(pyreft, base, folder, form)
            for intervention in rounded.interventions.values():
                if isinstance(intervention.learned_source, torch.nn.Module):  # pyreft's loader makes W and b bfloat16
                    intervention.learned_source.bfloat16().float()
            wanted = logits(rounded)
            reft = pyreft.ReftModel.load(folder, base)
            for intervention in reft.interventions.values():
                intervention.float()
            found["ReftModel.load"] = (logits(reft) - wanted).abs().max().item()
            assert found["ReftModel.load"] < 1e-5, f"{form}: {found}"
        print(form, {name: f"{value:.1e}" for name, value in found.items()})


if sys.argv[1] == "--close":
    close(*sys.argv[2:])
else:
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
