"""The Python side of encoder_test.sh: sentence embeddings, means of the last hidden states made as long as 1.

  make MODEL WORK      token ids of some sentences in WORK/sentence<i>, one folder's worth of transformers' embeddings
  compare MODEL WORK   against ours, from WORK/ours<i>.safetensors; exits 1 if one is off
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

TOLERANCE = 1e-4  # of any value of an embedding, absolute
SENTENCES = ["A cat sat on the mat.", "Representation finetuning edits hidden states, not weights.", "naïve café — 12.5%!",
             "The weather in Zürich was dreadful, so we stayed inside and read " + "one book after another, " * 20]


def embedding(hidden):
    return torch.nn.functional.normalize(hidden.mean(0), dim=0)


def make(model_path, work):
    # What the package itself says is done with the hidden states.
    with open(os.path.join(model_path, "1_Pooling/config.json")) as file:
        assert json.load(file)["pooling_mode_mean_tokens"]
    with open(os.path.join(model_path, "modules.json")) as file:
        assert [module["type"].split(".")[-1] for module in json.load(file)] == ["Transformer", "Pooling", "Normalize"]
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path)
    model = transformers.AutoModel.from_pretrained(model_path).eval()
    expected = {}
    for i, sentence in enumerate(SENTENCES):
        ids = tokenizer(sentence)["input_ids"]
        with open(os.path.join(work, f"sentence{i}"), "w") as file:
            file.write(",".join(map(str, ids)))
        with torch.no_grad():
            expected[str(i)] = embedding(model(torch.tensor([ids])).last_hidden_state[0])
    save_file(expected, os.path.join(work, "expected.safetensors"))


def compare(work):
    expected, good = load_file(os.path.join(work, "expected.safetensors")), True
    for name, value in expected.items():
        (hidden,) = load_file(os.path.join(work, f"ours{name}.safetensors")).values()
        error = float((embedding(hidden) - value).abs().max())
        print(f"sentence {name}: {hidden.shape[0]} tokens, the embedding is off by {error:.1e}")
        good = good and error <= TOLERANCE
    return good and len(expected) == len(SENTENCES)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        sys.exit(not compare(sys.argv[2]))
