#pragma once

#include <filesystem>
#include <string_view>

#include "reft/data/readers.hpp"
#include "reft/data/tokenize.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

/// Reads a data file and tokenizes it; the answer ends with the tokenizer's end token unless `options` name another.
/// @throws DataError as `read_examples` and `tokenize_examples`.
inline TokenizedExamples load_examples(const std::filesystem::path& path, const Tokenizer& tokenizer, TokenizeOptions options = {}) {
  if (!options.eos_token_id) options.eos_token_id = tokenizer.eos_token_id();
  return tokenize_examples(read_examples(path), [&](std::string_view text) { return tokenizer.encode(text); }, options);
}

}  // namespace reft
