#!/usr/bin/env python3
"""Writes tests/golden/pyreft_positions.json: the rows that pyreft 0.1.0 edits.

    python make_pyreft_positions.py [OUTPUT]

locations   get_intervention_locations over expressions, prompt lengths, tying and pad modes: for two interventions, the rows
            of each, sinks included (-1, or the prompt's length, as the pad mode says)
data_sets   what each data set asks of it on prompts of some lengths, its leading pad token taken off again
"""
import contextlib
import io
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import tokenizers
import transformers

with contextlib.redirect_stdout(io.StringIO()):
    import pyreft
    import pyreft.dataset

EXPRESSIONS = ["f1", "f3", "l1", "l2", "f1+l1", "f2+l3", "f3+l1", "f5+l5", "f7+l7"]


def locations():
    return [{"positions": expression, "prompt_length": length, "share_weights": share, "pad_mode": pad_mode,
             "rows": pyreft.get_intervention_locations(last_position=length, positions=expression, num_interventions=2,
                                                       share_weights=share, pad_mode=pad_mode)}
            for expression in EXPRESSIONS for length in range(1, 16) for share in (True, False) for pad_mode in ("first", "last")]


def word_tokenizer():
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[unk]": 0, "[pad]": 1, "[eos]": 2}, unk_token="[unk]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[unk]", pad_token="[pad]", eos_token="[eos]",
                                                model_max_length=64)


def data_sets():
    tokenizer, found = word_tokenizer(), []
    for words in (1, 2, 3, 4, 7, 12):
        prompt = " ".join(["word"] * words)
        row = {"instruction": prompt, "input": "", "output": " more words", "worse": " worse"}
        options = dict(position="f2+l3", num_interventions=2, share_weights=False)
        fields = dict(input_field="input", instruction_field="instruction", output_field="output")
        makers = {
            "ReftSupervisedDataset": lambda: pyreft.ReftSupervisedDataset("x", None, tokenizer, dataset=[row], **fields, **options),
            "ReftGenerationDataset": lambda: pyreft.ReftGenerationDataset(
                "x", None, tokenizer, dataset=[row], prompt_field="instruction", completion_field="output", **options),
            "ReftClassificationDataset": lambda: pyreft.dataset.ReftClassificationDataset(
                "x", None, tokenizer, dataset=[row], input_field="instruction", label_field=None, **options),
            "ReftPreferenceDataset": lambda: pyreft.ReftPreferenceDataset(
                "x", None, tokenizer, dataset=[row], chosen_output_field="output", rejected_output_field="worse", **fields, **options),
            "make_multiple_position_supervised_data_module": lambda: pyreft.make_multiple_position_supervised_data_module(
                tokenizer, None, [prompt], [row["output"]], positions="f2+l3", num_interventions=2)["train_dataset"],
        }
        for name, make in makers.items():
            with contextlib.redirect_stdout(io.StringIO()):
                item = make()[0]
            shift = 0 if name.startswith("make_") else 1
            wording = name in ("ReftSupervisedDataset", "ReftPreferenceDataset")
            text = pyreft.dataset.prompt_no_input % prompt if wording else prompt
            found.append({"data_set": name, "positions": "f2+l3", "prompt_length": len(tokenizer(text)["input_ids"]),
                          "rows": [[p - shift for p in rows] for rows in item["intervention_locations"]]})
    return found


output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyreft_positions.json")
golden = {"pyreft": "0.1.0", "locations": locations(), "data_sets": data_sets()}
with open(output, "w") as file:
    json.dump(golden, file, separators=(",", ":"))
    file.write("\n")
