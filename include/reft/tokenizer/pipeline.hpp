#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/decoder.hpp"
#include "reft/tokenizer/normalizer.hpp"
#include "reft/tokenizer/post_processor.hpp"
#include "reft/tokenizer/pre_tokenizer.hpp"
#include "reft/tokenizer/text_pieces.hpp"
#include "reft/tokenizer/tokenizer_interface.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

/// Appends the ids of one word.
using WordModel = std::function<void(std::string_view word, std::vector<int64_t>& ids)>;

/// A loaded tokenizer: the stages in the order a text passes them. An empty stage does nothing.
///   text → added tokens → normalizer → added tokens → pre-tokenizer → model → post-processor → ids → decoder → text
struct Pipeline {
  AddedTokens added_tokens;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::shared_ptr<const Vocabulary> vocabulary = std::make_shared<Vocabulary>();
  WordModel model;
  PostProcessor post_processor;
  Decoder decoder;
  SpecialTokenIds special;

  /// The id of an added token or of a token of the model, or -1.
  int64_t id_of(std::string_view token) const {
    const int32_t added = added_tokens.names().find(token);
    return added >= 0 ? added : vocabulary->find(token);
  }

  /// The token of an id, or nullptr.
  const std::string* token_of(int64_t id) const {
    const std::string* added = added_tokens.names().token(id);
    return added ? added : vocabulary->token(id);
  }
};

/// The ids of the words of one text, so that each is encoded once.
class WordCache {
 public:
  /// Appends the ids of `word` to `ids`, from an earlier place in `ids` where it has been before.
  void encode(const WordModel& model, std::string_view word, std::vector<int64_t>& ids) {
    // A text that is one long word does not come again, and its copy would cost as much as itself.
    if (word.size() > kLongestCachedWord) return model(word, ids);
    if (const auto seen = places_.find(word); seen != places_.end()) {
      const auto [begin, count] = seen->second;
      for (std::size_t i = 0; i < count; ++i) ids.push_back(ids[begin + i]);
      return;
    }
    const std::size_t begin = ids.size();
    model(word, ids);
    places_.emplace(word, std::pair(begin, ids.size() - begin));
  }

 private:
  static constexpr std::size_t kLongestCachedWord = 128;
  TextMap<std::pair<std::size_t, std::size_t>> places_;
};

/// Whether the normalized text begins with what became of the first character of `text`, and not of a later one.
inline bool keeps_first_character(const Normalizer& normalizer, std::string_view text) {
  return !normalizer || text.empty() || !normalizer(std::string(text.substr(0, utf8_length(text[0])))).empty();
}

/// Appends the ids of `text`, any bytes, without the post-processor's special tokens.
inline void encode_text(const Pipeline& pipeline, std::string_view bytes, std::vector<int64_t>& ids) {
  const std::string text = to_valid_utf8(bytes);
  WordCache cache;
  for (const auto& raw : pipeline.added_tokens.split_raw(text)) {
    if (raw.id) {
      ids.push_back(*raw.id);
      continue;
    }
    std::string stretch = text.substr(raw.begin, raw.end - raw.begin);
    const bool starts_text = raw.begin == 0 && keeps_first_character(pipeline.normalizer, stretch);
    if (pipeline.normalizer) stretch = pipeline.normalizer(std::move(stretch));
    for (const auto& segment : pipeline.added_tokens.split_normalized(stretch)) {
      if (segment.id) {
        ids.push_back(*segment.id);
        continue;
      }
      TextPieces pieces(stretch.substr(segment.begin, segment.end - segment.begin), starts_text && segment.begin == 0);
      if (pipeline.pre_tokenizer) pipeline.pre_tokenizer(pieces);
      for (const auto& piece : pieces.pieces) cache.encode(pipeline.model, pieces.view(piece), ids);
    }
  }
}

inline std::string decode_ids(const Pipeline& pipeline, std::span<const int64_t> ids, bool skip_special_tokens) {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    if (skip_special_tokens && pipeline.added_tokens.is_special(id)) continue;
    if (const std::string* token = pipeline.token_of(id)) tokens.push_back(*token);
  }
  if (pipeline.decoder) return concatenated(pipeline.decoder(std::move(tokens)));
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) text.append(i > 0 ? " " : "").append(tokens[i]);
  return text;
}

}  // namespace reft::detail
