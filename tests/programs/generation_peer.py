"""The transformers side of generation_test.sh: what its `generate` answers to the same prompts, each alone.

  make WORK SHARED     WORK/prompts.jsonl; WORK/cases, one "name <tab> flags of our generate" a line; WORK/reference.json
  compare WORK         checks WORK/<name>.jsonl, what our generate printed; one line per case, exits 1 if something is off

With WORK/adapter, one of ours, hooks make its edits in transformers too.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

TOLERANCE = 1e-4  # of a log-probability in float32; of a larger score, relative
NEW_TOKENS = 40
PROMPT_LENGTHS = [24, 5, 11, 37, 2]

# name -> (flags of ours, arguments of transformers' generate)
CASES = {
    "greedy": ("--logprobs", {}),
    "repetition": ("--repetition-penalty 1.3", {"repetition_penalty": 1.3}),
    "ngrams": ("--no-repeat-ngram 3", {"no_repeat_ngram_size": 3}),
    "temperature": ("--temperature 0.8 --logprobs", {"do_sample": True, "temperature": 0.8, "top_k": 0}),
    "top_k": ("--temperature 1 --top-k 20", {"do_sample": True, "top_k": 20}),
    "top_p": ("--temperature 1.2 --top-p 0.85", {"do_sample": True, "temperature": 1.2, "top_k": 0, "top_p": 0.85}),
    "min_p": ("--temperature 1.5 --min-p 0.1", {"do_sample": True, "temperature": 1.5, "top_k": 0, "min_p": 0.1}),
    "all_rules": ("--temperature 1.1 --top-k 40 --top-p 0.9 --min-p 0.02 --repetition-penalty 1.1 --no-repeat-ngram 4",
                  {"do_sample": True, "temperature": 1.1, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.1, "no_repeat_ngram_size": 4}),
    "beams": ("--num-beams 4 --num-samples 4", {"num_beams": 4, "num_return_sequences": 4}),
    "beams_one_length": ("--num-beams 4 --length-penalty 0 --early-stopping never", {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"}),
    "beams_long": ("--num-beams 3 --length-penalty 2 --early-stopping never --num-samples 2",
                   {"num_beams": 3, "length_penalty": 2.0, "early_stopping": "never", "num_return_sequences": 2}),
    "beams_short": ("--num-beams 4 --length-penalty -1 --early-stopping yes", {"num_beams": 4, "length_penalty": -1.0, "early_stopping": True}),
    "beams_rules": ("--num-beams 4 --repetition-penalty 1.2 --no-repeat-ngram 3", {"num_beams": 4, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}),
}
ADAPTED = ["greedy", "temperature", "beams", "beams_long"]


def edits_of(folder):
    """(layer, position, R, W, b) of a reft adapter of LoReFTs at block outputs."""
    with open(os.path.join(folder, "adapter_config.json")) as file:
        entries = json.load(file)["interventions"]
    tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    edits = []
    for i, entry in enumerate(entries):
        assert entry["type"] == "loreft" and entry["phase"] == "prompt", entry
        (site,) = entry["sites"]
        position = {"f1": 0, "l1": -1}[entry["positions"]]
        edits.append((int(site.split(".")[1]), position, *(tensors[f"interventions.{i}.{name}"] for name in "RWb")))
    return edits


def attach(model, edits):
    """Hooks that edit the prompt, in the one forward that has more than one token a sequence."""
    def hook(position, R, W, b):
        def edit(module, args, output):
            h = output[0] if isinstance(output, tuple) else output
            if h.shape[1] > 1:
                x = h[:, position]
                h[:, position] = x + (x @ W.T + b - x @ R.T) @ R
            return output
        return edit

    return [model.model.layers[layer].register_forward_hook(hook(position, R, W, b)) for layer, position, R, W, b in edits]


def answers(model, prompt, arguments, end):
    """Everything transformers returns for one prompt: tokens up to the end token, and the sequence's score if it has one."""
    torch.manual_seed(42)
    drawn = {"do_sample": False, **arguments}
    with torch.no_grad():
        result = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=0, return_dict_in_generate=True,
                                output_scores=True, output_logits=True, **drawn)
    found = []
    for row, sequence in enumerate(result.sequences[:, len(prompt):].tolist()):
        stop = min((sequence.index(token) for token in end if token in sequence), default=len(sequence))
        answer = {"tokens": sequence[:stop], "finish_reason": "stop" if stop < len(sequence) else "length"}
        if "num_beams" in arguments:
            answer["beam_score"] = float(result.sequences_scores[row])
        else:
            chosen = [float(logits[row].float().log_softmax(-1)[token]) for logits, token in zip(result.logits, answer["tokens"])]
            answer["log_probabilities"] = chosen
        found.append(answer)
    return found


def scores(model, prompt, continuation, hooks):
    """Log-probabilities of a continuation; with hooks over a cache, so that only the prompt is edited."""
    found, cache, feed = [], None, prompt
    with torch.no_grad():
        if not hooks:
            logits = model(torch.tensor([prompt + continuation])).logits[0].float().log_softmax(-1)
            return [float(logits[len(prompt) - 1 + t][token]) for t, token in enumerate(continuation)]
        for token in continuation:
            result = model(torch.tensor([feed]), past_key_values=cache, use_cache=True)
            found.append(float(result.logits[0, -1].float().log_softmax(-1)[token]))
            cache, feed = result.past_key_values, [token]
    return found


def make(work, shared):
    sys.path.insert(0, os.path.join(shared, "peers"))
    import peers_common
    torch.set_num_threads(1)
    model = peers_common.load_model(os.path.join(shared, "assets/models/tinystories656k_hf"))
    model.generation_config = transformers.GenerationConfig()
    with open(os.path.join(work, "model/config.json")) as file:
        end = json.load(file)["eos_token_id"]
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, model.config.vocab_size, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]
    # What the model itself would write goes on longer and ends sooner.
    prompts += [model.generate(torch.tensor([[1] + prompt[:2]]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist() for prompt in prompts[:2]]
    with open(os.path.join(work, "prompts.jsonl"), "w") as file:
        file.writelines(json.dumps({"prompt_tokens": prompt}) + "\n" for prompt in prompts)
    continuation = torch.randint(3, model.config.vocab_size, (9,), generator=generator).tolist()

    reference, lines = {}, []
    for adapted in (False, True):
        hooks = attach(model, edits_of(os.path.join(work, "adapter"))) if adapted else []
        adapter = f"--adapter {work}/adapter " if adapted else ""
        for name in ADAPTED if adapted else CASES:
            flags, arguments = CASES[name]
            key = name + ("_adapted" if adapted else "")
            reference[key] = [answer for prompt in prompts for answer in answers(model, prompt, arguments, end)]
            lines.append(f"{key}\t{adapter}--max-new-tokens {NEW_TOKENS} {flags}\n")
        key = "score" + ("_adapted" if adapted else "")
        reference[key] = [{"log_probabilities": scores(model, prompt, continuation, hooks)} for prompt in prompts]
        lines.append(f"{key}\t{adapter}--score-tokens {','.join(map(str, continuation))}\n")
        for hook in hooks:
            hook.remove()
    assert reference["greedy"] != reference["greedy_adapted"] and reference["beams"] != reference["beams_adapted"], "the adapter changes nothing"
    stopped = sum(answer["finish_reason"] == "stop" for answer in reference["beams"])
    assert 0 < stopped < len(reference["beams"]), f"{stopped} of {len(reference['beams'])} beams ended early; the test wants both"
    with open(os.path.join(work, "cases"), "w") as file:
        file.writelines(lines)
    with open(os.path.join(work, "reference.json"), "w") as file:
        json.dump(reference, file)


def compare(work):
    with open(os.path.join(work, "reference.json")) as file:
        reference = json.load(file)
    good = True
    for name, expected in reference.items():
        with open(os.path.join(work, name + ".jsonl")) as file:
            found = [json.loads(line) for line in file]
        problems, worst = [], 0.0
        if len(found) != len(expected):
            problems.append(f"{len(found)} answers, expected {len(expected)}")
        for i, (ours, theirs) in enumerate(zip(found, expected)):
            for key in ("tokens", "finish_reason"):
                if key in theirs and ours[key] != theirs[key]:
                    problems.append(f"answer {i}: {key} {ours[key]}, expected {theirs[key]}")
            if "beam_score" in theirs:
                worst = max(worst, abs(ours["beam_score"] - theirs["beam_score"]) / max(1.0, abs(theirs["beam_score"])))
            if "log_probabilities" in theirs and "log_probabilities" in ours and len(ours["log_probabilities"]) == len(theirs["log_probabilities"]):
                worst = max([worst] + [abs(a - b) for a, b in zip(ours["log_probabilities"], theirs["log_probabilities"])])
        if worst > TOLERANCE:
            problems.append(f"a score is off by {worst:.1e}")
        ended = sum(answer.get("finish_reason") == "stop" for answer in expected)
        print(f"{name}: {len(expected)} answers, {ended} of them ended; scores within {worst:.1e}")
        for problem in problems[:3]:
            print(f"  {problem}")
        good = good and not problems
    return good


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(*sys.argv[2:])
    else:
        sys.exit(not compare(sys.argv[2]))
