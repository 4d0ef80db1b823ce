"""The Python side of tokenizer_families_test.sh.

  make WORK SHARED     folders WORK/<case> with a tokenizer each (those of the shared data, and small ones trained here
                       with the settings of known models); WORK/texts.jsonl, one JSON string a line; WORK/cases
  compare WORK CASE..  checks WORK/<case>.jsonl, which our program made of the texts, against the reference of each case;
                       one line a case, exits 1 if something is off
"""
import json
import os
import random
import re
import sys
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the cases themselves are compared side by side

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

SEED = 20260601
NUM_RANDOM = 5000
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
ENDING = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
O200K = "|".join([rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{ENDING}", rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{ENDING}", r"\p{N}{1,3}",
                  r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
MARK = "\u2581"
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<bos>", "<eos>", "<|endoftext|>",
           "<|im_start|>", "<|begin_of_text|>", "<0x0A>", "<left>", "<right>", "<both>", "Word", "NORM", "norm", MARK, "##s", "</w>"]
UNTRAINED = SEED + 1  # the texts of this seed have no special tokens, which would become part of a vocabulary


def random_texts(seed, count):
    """Assigned characters, combining marks, emoji, white space, control characters, ASCII and special tokens."""
    generator = random.Random(seed)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs")]
    pools = [assigned, [c for c in assigned if ord(c) < 0x3000], [c for c in assigned if unicodedata.category(c)[0] == "M"],
             list(map(chr, range(0x1F300, 0x1F650))) + ["\u200d", "\ufe0f", "\U0001f3fb"], list("  \n\t\r\u00a0\u2003\u3000\u0085\u180e"),
             [c for c in assigned if unicodedata.category(c) in ("Cc", "Cf")], list("abcdefgh't's ABC 0123456789 .,!?-_<>|/"),
             list("the a and Lily was ing ed s"), list(map(chr, range(0xAC00, 0xAC80))) + list(map(chr, range(0x1100, 0x1200))), SPECIAL]
    if seed == UNTRAINED:
        pools.pop()
    return ["".join(generator.choice(generator.choice(pools)) for _ in range(generator.randrange(1, 40))) for _ in range(count)]


def vector_texts(shared):
    texts = []
    for path in sorted((shared / "assets/tokenizers/ggml_vocab").glob("*.inp")):
        texts += path.read_bytes().decode("utf-8", errors="replace").split("\n__ggml_vocab_test__\n")
    return list(dict.fromkeys(texts))


def corpus(shared):
    stories = (shared / "assets/datasets/tinystories/tinystories_sample_2MiB.txt").read_text(encoding="utf-8", errors="replace")
    return stories[:300_000].split("\n") + random_texts(UNTRAINED, 1500)


def train(tokenizer, trainer, lines):
    trainer.show_progress = False
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def bpe(lines, special, pieces=(), vocab_size=3000, **model):
    """@return a BPE model trained behind `pieces` = (normalizer, pre_tokenizer), and its specials' ids."""
    tokenizer = Tokenizer(models.BPE(**model))
    normalizer, pre_tokenizer, alphabet = pieces
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    suffix = {"end_of_word_suffix": model["end_of_word_suffix"]} if "end_of_word_suffix" in model else {}
    return train(tokenizer, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False,
                                                limit_alphabet=600, **suffix), lines)


def edited(tokenizer, edit):
    data = json.loads(tokenizer.to_str())
    edit(data)
    return Tokenizer.from_str(json.dumps(data))


def around(tokenizer, before, after):
    single = " ".join([*before, "$A", *after])
    tokens = {token: tokenizer.token_to_id(token) for token in [*before, *after]}
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=list(tokens.items()))


def byte_level_split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def qwen2(lines):
    tokenizer = bpe(lines, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                    (normalizers.NFC(), byte_level_split(QWEN2), pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama3(lines):
    tokenizer = bpe(lines, ["<|begin_of_text|>", "<|endoftext|>"], (None, byte_level_split(LLAMA3), pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = edited(tokenizer, lambda data: data["model"].update(ignore_merges=True))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around(tokenizer, ["<|begin_of_text|>"], [])])
    return tokenizer


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def without_byte_specials(data):
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in BYTES]


def gemma(lines):
    tokenizer = bpe(lines, ["<pad>", "<eos>", "<bos>", "<unk>", *BYTES],
                    (normalizers.Replace(" ", MARK), pre_tokenizers.Split(" ", "merged_with_previous"), []), vocab_size=4000, unk_token="<unk>",
                    fuse_unk=True, byte_fallback=True)
    tokenizer = edited(tokenizer, without_byte_specials)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = around(tokenizer, ["<bos>"], [])
    return tokenizer


def roberta(lines):
    tokenizer = bpe(lines, ["<s>", "<pad>", "</s>", "<unk>"], (None, pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def clip(lines):
    """Words that end in </w>, some of them unknown; flags of added tokens."""
    tokenizer = bpe(lines, ["<unk>"], (normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]), pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("contiguous")]), []),
        unk_token="<unk>", end_of_word_suffix="</w>")
    tokenizer.add_tokens([AddedToken("<left>", lstrip=True), AddedToken("<right>", rstrip=True), AddedToken("<both>", lstrip=True, rstrip=True),
                          AddedToken("Word", single_word=True), AddedToken("NORM", normalized=True), AddedToken("ABC", normalized=False)])
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def few_characters(lines):
    """Each takes a place in a vocabulary."""
    return ["".join(c for c in line if ord(c) < 0x600) for line in lines]


def unigram(lines, normalizer, pre_tokenizer, special):
    tokenizer = Tokenizer(models.Unigram())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    lines = few_characters(lines[:500] + lines[-300:])
    return train(tokenizer, trainers.UnigramTrainer(vocab_size=2000, special_tokens=special, unk_token="<unk>", show_progress=False), lines)


def t5(lines, charsmap):
    rules = [normalizers.Precompiled(charsmap), normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), MARK)]
    tokenizer = unigram(lines, normalizers.Sequence(rules), pre_tokenizers.Metaspace(prepend_scheme="always"), ["<pad>", "</s>", "<unk>"])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = around(tokenizer, [], ["</s>"])
    return tokenizer


def unigram_bytes(lines):
    tokenizer = unigram(lines, normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]), pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                        ["<unk>", "<s>", *BYTES])
    def edit(data):
        without_byte_specials(data)
        data["model"]["byte_fallback"] = True
    tokenizer = edited(tokenizer, edit)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    return tokenizer


def wordpiece(lines, normalizer, pre_tokenizer, cleanup):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    train(tokenizer, trainers.WordPieceTrainer(vocab_size=3000, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False), lines)
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    return tokenizer


def bert(lines):
    tokenizer = wordpiece(lines, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), True)
    tokenizer.post_processor = around(tokenizer, ["[CLS]"], ["[SEP]"])
    return tokenizer


def bert_cased(lines):
    tokenizer = wordpiece(lines, normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer(), False)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def wordpiece_forms(lines):
    """Marks taken off, compatibility forms, short longest words."""
    rules = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()]
    tokenizer = wordpiece(lines, normalizers.Sequence(rules), pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("a", "merged_with_next"), pre_tokenizers.Punctuation("merged_with_previous"),
         pre_tokenizers.Split(Regex(r"[\p{Lu}x]+"), "removed", invert=False), pre_tokenizers.CharDelimiterSplit("|")]), False)
    return edited(tokenizer, lambda data: data["model"].update(max_input_chars_per_word=5))


def sentencepiece_charsmap(lines):
    """The nmt_nfkc rule as sentencepiece writes it into a model."""
    import io
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([line for line in lines[:300] if line.strip()]), model_writer=written, vocab_size=300,
                                             hard_vocab_limit=False, minloglevel=2, num_threads=1)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(written.getvalue())
    return model.normalizer_spec.precompiled_charsmap


def trained(lines):
    yield from ((make.__name__, make(lines)) for make in (qwen2, llama3, gemma, roberta, clip, unigram_bytes, bert, bert_cased, wordpiece_forms))
    yield "t5", t5(lines, sentencepiece_charsmap(lines))


def files(work):
    """Folders from before there was a tokenizer.json, made of the trained models."""
    def save(name, of, **config):
        folder = work / name
        folder.mkdir()
        Tokenizer.from_file(str(work / of / "tokenizer.json")).model.save(str(folder))
        if config:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    save("qwen2_files", "qwen2", tokenizer_class="Qwen2Tokenizer", added_tokens_decoder={
        str(i): {"content": token, **flags} for i, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])})
    save("roberta_files", "roberta", tokenizer_class="RobertaTokenizer")
    save("opt_files", "roberta", tokenizer_class="GPT2Tokenizer", add_bos_token=True, bos_token="</s>", eos_token="</s>", unk_token="</s>")
    save("bert_files", "bert")
    save("bert_cased_files", "bert_cased", tokenizer_class="BertTokenizer", do_lower_case=False)


def sentencepiece_files(work, shared, lines):
    """Folders with a tokenizer.model: Llama 2's with older and newer settings, and two trained here."""
    import shutil
    import sentencepiece
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    decoder = {str(i): {"content": token, **flags} for i, token in enumerate(["<unk>", "<s>", "</s>"])}
    decoder |= {"32000": {"content": "<pad>", **flags}, "32001": {"content": "<left>", **flags, "lstrip": True, "special": False},
                "32002": {"content": "<right>", **flags, "rstrip": True}, "32005": {"content": "NORM", **flags, "special": False}}
    configs = {"llama2_newer": {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_eos_token": True, "pad_token": "<pad>",
                                "additional_special_tokens": ["<right>"], "added_tokens_decoder": decoder},
               "llama2_no_prefix": {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_prefix_space": False}}
    for name, config in configs.items():
        (work / name).mkdir()
        shutil.copy(shared / "assets/tokenizers/llama2/tokenizer.model", work / name)
        (work / name / "tokenizer_config.json").write_text(json.dumps(config))
    (work / "llama2_no_prefix/added_tokens.json").write_text(json.dumps({"<pad>": 32000, "Word": 14463}))
    sentences = [line for line in few_characters(lines) if line.strip()]
    for name, config, trainer in [
        ("spm_unigram", {"tokenizer_class": "LlamaTokenizer", "legacy": False}, {"model_type": "unigram", "vocab_size": 1500}),
        ("spm_gemma", {"tokenizer_class": "GemmaTokenizer"}, {
            "model_type": "bpe", "vocab_size": 2500, "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False,
            "byte_fallback": True, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "bos_piece": "<bos>", "eos_piece": "<eos>",
            "user_defined_symbols": [2 * MARK, 3 * MARK, "\n\n", "ABC"]})]:
        (work / name).mkdir()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_prefix=str(work / name / "tokenizer"), hard_vocab_limit=False,
                                                 character_coverage=0.98, minloglevel=2, num_threads=1, **trainer)
        (work / name / "tokenizer_config.json").write_text(json.dumps(config))


SHARED = {"gpt2_files": "tokenizers/gpt2", "llama3_ranks": "tokenizers/llama3", "llama2": "tokenizers/llama2", "phi3": "tokenizers/phi3", "phi2": "tokenizers/phi2_gpt2style", "tinystories": "models/tinystories656k_hf"}


def make(work, shared):
    lines = corpus(shared)
    for name, tokenizer in trained(lines):
        (work / name).mkdir()
        tokenizer.save(str(work / name / "tokenizer.json"))
    files(work)
    sentencepiece_files(work, shared, lines)
    for name, folder in SHARED.items():
        (work / name).symlink_to(shared / "assets" / folder)
    (work / "o200k_ranks").mkdir()  # Llama 3's ranks, cut as o200k does
    (work / "o200k_ranks/o200k_base.tiktoken").symlink_to(shared / "assets/tokenizers/llama3/tokenizer.model")
    data = shared / "assets/datasets"
    texts = vector_texts(shared) + random_texts(SEED, NUM_RANDOM) + [
        (data / name).read_bytes().decode("utf-8", errors="replace")
        for name in ("pyreft/alice_in_wonderland.txt", "tinystories/tinystories_sample_2MiB.txt")]
    (work / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    cases = sorted(path.name for path in work.iterdir() if path.is_dir())
    for case in cases:
        (work / f"{case}.flags").write_text("" if reference(work / case)[0] else "--no-special")
    (work / "cases").write_text("\n".join(cases) + "\n")


def ranks_reference(file, pattern):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    encoding = tiktoken.Encoding("ranks", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(str(file)), special_tokens={})
    def encoded(text):
        ids = encoding.encode_ordinary(text)
        return ids, encoding.decode(ids)
    return True, encoded


def sentencepiece_reference(folder):
    """transformers' own Python class. What it computes anew for every token is computed once."""
    import transformers
    name = json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]
    tokenizer = getattr(transformers, name).from_pretrained(str(folder))
    once = {key: getattr(tokenizer, key) for key in ("all_special_ids", "all_special_tokens")}
    tokenizer.__class__ = type(name, (tokenizer.__class__,), once)
    strips = any(token.rstrip for token in tokenizer.added_tokens_decoder.values())
    def encoded(text):
        # Python counts U+001C to U+001F as white space, Unicode does not. A unigram model's scores are summed in float32 over
        # the whole text, and since 0.2 the library rounds otherwise: what is best may then change within a long text.
        if strips and re.search("<right>[\x1c-\x1f]|[\x1c-\x1f]<left>", text) or folder.name == "spm_unigram" and len(text) > 100_000:
            return None
        ids = tokenizer.encode(text)
        return ids, tokenizer.decode(ids, skip_special_tokens=True)
    return True, encoded


def files_class(folder):
    config = folder / "tokenizer_config.json"
    name = json.loads(config.read_text())["tokenizer_class"] if config.exists() else {True: "BertTokenizer", False: "GPT2Tokenizer"}[(folder / "vocab.txt").exists()]
    return name + "Fast"


def reference(folder):
    """@return whether special tokens are put around a text, and text -> (ids, decoded text), or None where they are not comparable."""
    if (folder / "o200k_base.tiktoken").exists():
        return ranks_reference(folder / "o200k_base.tiktoken", O200K)
    if (folder / "tokenizer.model").exists():
        is_ranks = not (folder / "tokenizer_config.json").exists()
        return ranks_reference(folder / "tokenizer.model", LLAMA3) if is_ranks else sentencepiece_reference(folder)
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Where a class of transformers puts other ends around a text than the file, the text itself is compared.
        special = not (folder / "tokenizer_config.json").exists()
    else:
        import transformers
        tokenizer = getattr(transformers, files_class(folder)).from_pretrained(str(folder)).backend_tokenizer
        special = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    def encoded(text):
        ids = tokenizer.encode(text, add_special_tokens=special).ids
        return ids, tokenizer.decode(ids) if ids else ""
    return special, encoded


def compare_case(work, case):
    """@return what is to be printed, and whether something is off."""
    texts = [json.loads(line) for line in open(work / "texts.jsonl", encoding="utf-8")]
    _, encoded = reference(work / case)
    rows = [json.loads(line) for line in open(work / f"{case}.jsonl", encoding="utf-8")]
    wrong = [] if len(rows) == len(texts) else [f"{len(rows)} rows for {len(texts)} texts"]
    compared = tokens = 0
    for text, row in zip(texts, rows):
        expected = encoded(text)
        if expected is None:
            continue
        ids, decoded = expected
        compared += 1
        tokens += len(ids)
        if row["ids"] != ids:
            first = next((i for i, (a, b) in enumerate(zip(row["ids"], ids)) if a != b), min(len(ids), len(row["ids"])))
            wrong.append(f"ids of {text[:80]!r} from {first} on: {row['ids'][first:first + 8]} for {ids[first:first + 8]}")
        elif row["text"] != decoded:
            wrong.append(f"text of {ids[:20]}: {row['text'][:80]!r} for {decoded[:80]!r}")
    lines = [f"{case}: {compared} texts, {tokens} tokens, {len(wrong)} differ"]
    return lines + [f"  {line}" for line in wrong[:int(os.environ.get("SHOW", 5))]], bool(wrong)


def compare(work, cases):
    off = False
    with ProcessPoolExecutor() as pool:  # the longest begin first
        for lines, wrong in pool.map(compare_case, [work] * len(cases), sorted(cases, key=lambda case: not case.startswith(("llama2", "spm", "gemma")))):
            print("\n".join(lines), flush=True)
            off = off or wrong
    return 1 if off else 0


def main():
    command, work = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        return make(work, Path(sys.argv[3]))
    return compare(work, sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
