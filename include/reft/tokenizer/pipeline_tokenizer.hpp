#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/tokenizer_interface.hpp"

namespace reft::detail {

/// A tokenizer made of stages, as a tokenizer.json describes them.
class PipelineTokenizer : public TokenizerInterface {
 public:
  explicit PipelineTokenizer(Pipeline pipeline) : pipeline_(std::move(pipeline)) {}

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<int64_t> ids;
    if (add_special_tokens) ids = pipeline_.post_processor.before;
    encode_text(pipeline_, text, ids);
    const std::vector<int64_t>& after = pipeline_.post_processor.after;
    if (add_special_tokens) ids.insert(ids.end(), after.begin(), after.end());
    return ids;
  }

  EncodedPair encode_pair(std::string_view first, std::string_view second, bool add_special_tokens) const override {
    if (pipeline_.post_processor.pair.empty()) return TokenizerInterface::encode_pair(first, second, add_special_tokens);
    EncodedPair result;
    for (const PairPiece& piece : pipeline_.post_processor.pair) {
      if (piece.text >= 0) encode_text(pipeline_, piece.text == 0 ? first : second, result.ids);
      else if (add_special_tokens) result.ids.insert(result.ids.end(), piece.ids.begin(), piece.ids.end());
      result.type_ids.resize(result.ids.size(), piece.type_id);
    }
    return result;
  }

  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override {
    return decode_ids(pipeline_, ids, skip_special_tokens);
  }

  std::optional<int64_t> id_of(std::string_view token) const override {
    const int64_t id = pipeline_.id_of(token);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  std::optional<std::string> token_of(int64_t id) const override {
    const std::string* token = pipeline_.token_of(id);
    return token ? std::optional(*token) : std::nullopt;
  }

  int64_t vocabulary_size() const override {
    return std::max(pipeline_.vocabulary->end_id(), pipeline_.added_tokens.names().end_id());
  }

  SpecialTokenIds special_tokens() const override { return pipeline_.special; }

 private:
  Pipeline pipeline_;
};

}  // namespace reft::detail
