#!/usr/bin/env bash
# Without SentencePiece's library a tokenizer.model is refused with the ways out.
set -euo pipefail
source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${REFT_CXX:-c++}" -std=c++20 -O0 -DFMT_HEADER_ONLY -I"$source_dir/include" "$source_dir/tests/compile/without_sentencepiece.cpp" \
  -o "$work/refuse" -lpcre2-8 -lutf8proc
said=$("$work/refuse")
expected="[reft::load_tokenizer] tokenizer.model: this is a SentencePiece model, and reft was built without its library: \
install libsentencepiece-dev (cmake/bootstrap.sh does) and configure again, or let transformers make a tokenizer.json of it by \
AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
[ "$said" = "$expected" ] || { echo "$said"; exit 1; }
