"""What `classification` is measured against: transformers' BertForSequenceClassification with peft's LoRA, or with nothing
but its trained head (pooler and classifier), on the same data, for as many steps of as many examples.

  python classification_peer.py lora MODEL TRAIN.tsv DEV.tsv --learning-rate 3e-3 --seed 1

AdamW without decay, linear schedule without warm-up, gradients clipped at norm 1, no dropout, as `classification`. The last
line is one JSON object. --holdout N measures on N training rows that are then not trained on: for choosing learning rates.
"""
import argparse
import json
import os
import random
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
import transformers  # noqa: E402


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split("\t")
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(row[names.index("sentence")], int(row[names.index("label")])) for row in rows]


def make_model(args):
    config = transformers.AutoConfig.from_pretrained(args.model, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(args.model, config=config)
    if args.method == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
                                                           target_modules=["query", "value"], modules_to_save=["classifier", "pooler"]))
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("classifier" in name or "pooler" in name)
    return model


def collate(tokenizer, rows, max_length):
    inputs = tokenizer([text for text, _ in rows], truncation=True, max_length=max_length, padding=True, return_tensors="pt")
    return inputs, torch.tensor([label for _, label in rows])


def accuracy(model, tokenizer, rows, max_length):
    model.eval()
    hits = 0
    with torch.no_grad():
        for first in range(0, len(rows), 64):
            inputs, labels = collate(tokenizer, rows[first:first + 64], max_length)
            hits += (model(**inputs).logits.argmax(-1) == labels).sum().item()
    return hits / len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["lora", "head"])
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("dev")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--head-learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--holdout", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    train, dev = read_rows(args.train), read_rows(args.dev)
    if args.holdout:
        random.Random(0).shuffle(train)
        train, dev = train[args.holdout:], train[:args.holdout]
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    model = make_model(args)
    head = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n]
    lora = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" in n]
    groups = [{"params": head, "lr": args.head_learning_rate}] + ([{"params": lora, "lr": args.learning_rate}] if lora else [])
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / args.steps)
    order, start, loss_sum = [], time.time(), 0.0
    model.train()
    for step in range(args.steps):
        if len(order) < args.batch_size:
            order = random.Random(1000 * args.seed + step).sample(range(len(train)), len(train))
        inputs, labels = collate(tokenizer, [train[order.pop()] for _ in range(args.batch_size)], args.max_length)
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head + lora, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss_sum += loss.item()
    count = lambda parameters: sum(p.numel() for p in parameters)  # noqa: E731
    print(json.dumps({"method": args.method, "seed": args.seed, "learning_rate": args.learning_rate, "head_learning_rate": args.head_learning_rate,
                      "train_loss": loss_sum / args.steps, "accuracy": accuracy(model, tokenizer, dev, args.max_length), "evaluated": len(dev),
                      "method_parameters": count(lora), "head_parameters": count(head), "seconds": time.time() - start}))


if __name__ == "__main__":
    main()
