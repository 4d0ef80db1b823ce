// What reads a tokenizer.model, compiled as where SentencePiece is not installed.
#include <cstdio>

#include "reft/tokenizer/sentencepiece.hpp"

int main() {
  const nlohmann::json none;
  try {
    reft::detail::read_sentencepiece("", {}, reft::detail::JsonNode(none, "tokenizer.model"));
  } catch (const reft::TokenizerError& error) {
    std::puts(error.what());
  }
}
