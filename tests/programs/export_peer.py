"""What other programs make of the adapters that convert wrote, and adapters of theirs for convert to read.

    export_peer.py adapters-read  BASE FOLDER LOGITS TOKENS   the adapters package's logits with FOLDER are those in LOGITS
    export_peer.py adapters-write BASE FOLDER TOKENS          FOLDER/{loreft,noreft,direft} and their FOLDER/<form>.logits.safetensors
    export_peer.py gguf-read  FILE DUMP                       FILE's vectors are the Rᵀs of a dump
    export_peer.py gguf-write FILE                            vectors of layer 1, width 24
    export_peer.py gguf-equal FILE DUMP
    export_peer.py easysteer  FOLDER DUMP                     FOLDER's tensors give the edits of a dump's
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import load_file, save_file

LIMIT = 1e-5  # of float32 logits near 10: the order of sums differs


def close(found, expected, what):
    difference = (found - expected).abs().max().item()
    assert difference < LIMIT, f"{what}: differs by {difference}"
    print(f"{what}: {difference:.1e}")


def load_base(folder):
    import adapters
    import transformers
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    adapters.init(base)
    return base


def logits(base, name, tokens):
    base.set_active_adapters(name)
    base.eval()
    with torch.no_grad():
        return base(torch.tensor([[int(token) for token in tokens.split(",")]])).logits[0]


def config_of(form, **options):
    import adapters
    make = {"loreft": adapters.LoReftConfig, "noreft": adapters.NoReftConfig, "direft": adapters.DiReftConfig}[form]
    return make(**options)


def adapters_read(base_folder, folder, expected, tokens):
    base, form = load_base(base_folder), os.path.basename(folder).split(".")[0]
    if form == "direft":  # the package does not store what it is, so an adapter of that kind must be there to be filled
        base.add_adapter("reft", config=config_of("direft", layers="all", r=3, prefix_positions=2, suffix_positions=1))
    close(logits(base, base.load_adapter(folder), tokens), load_file(expected)["logits"], f"{form} read by adapters")


def adapters_write(base_folder, folder, tokens):
    for form, tied in (("loreft", False), ("noreft", True), ("direft", False)):
        torch.manual_seed(2)
        base = load_base(base_folder)
        base.add_adapter(form, config=config_of(form, r=3, prefix_positions=2, suffix_positions=1, tied_weights=tied, non_linearity="tanh"))
        with torch.no_grad():
            for name, parameter in base.named_parameters():
                if ".refts." in name:  # as training leaves it; the diagonal of an orthogonal one has no gradient
                    step = 0.2 * torch.randn_like(parameter)
                    if name.endswith("original"):
                        step.fill_diagonal_(0)
                    parameter.add_(step)
        base.save_adapter(os.path.join(folder, form), form)
        save_file({"logits": logits(base, form, tokens).contiguous()}, os.path.join(folder, form + ".logits.safetensors"))


def pushes(dump):
    """Rᵀs by layer."""
    tensors = load_file(dump)
    return {int(key.split("/")[0].split("_")[1]): tensors[key] @ tensors[key[:-1] + "s"] for key in tensors if key.endswith("/R")}


def gguf_read(path, dump):
    import gguf
    reader, expected = gguf.GGUFReader(path), pushes(dump)
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert {tensor.name for tensor in reader.tensors} == {f"direction.{layer}" for layer in expected}
    for tensor in reader.tensors:
        close(torch.tensor(tensor.data), expected[int(tensor.name.split(".")[1])], tensor.name + " read by gguf")


def gguf_write(path):
    import gguf
    import numpy
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 1)
    writer.add_tensor("direction.1", numpy.linspace(-1, 2, 24, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_equal(path, dump):
    import gguf
    for tensor in gguf.GGUFReader(path).tensors:
        close(pushes(dump)[int(tensor.name.split(".")[1])], torch.tensor(tensor.data), tensor.name + " read by convert")


def easysteer(folder, dump):
    """As EasySteer's loader finds a layer's tensors: one .bin in each folder, the layer in its name."""
    expected, h = load_file(dump), torch.randn(5, 24)
    assert len(os.listdir(folder)) == len([key for key in expected if key.endswith("/R")])
    for part in sorted(os.listdir(folder)):
        (name,) = [name for name in os.listdir(os.path.join(folder, part)) if name.endswith(".bin")]
        layer, index = part.split("_")[1:]
        assert name.startswith(f"intkey_layer_{layer}_"), name
        tensors = torch.load(os.path.join(folder, part, name), weights_only=True)
        key = f"layer_{layer}_comp_block_output_unit_pos_nunit_1#{index}/"
        R, W, b = expected[key + "R"], expected[key + "W"], expected[key + "b"]
        found = h + (h @ tensors["weight"].T + tensors["bias"] - h @ tensors["rotate_layer"]) @ tensors["rotate_layer"].T
        close(found, h + (h @ W.T + b - h @ R) @ R.T, part)


globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
