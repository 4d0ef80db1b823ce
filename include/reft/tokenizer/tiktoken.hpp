#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"
#include "reft/tokenizer/base64.hpp"
#include "reft/tokenizer/bpe.hpp"
#include "reft/tokenizer/byte_level.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/vocabulary.hpp"
#include "reft/tokenizer/vocabulary_files.hpp"

namespace reft::detail {

/// Llama 3 and cl100k cut as Qwen2 does, but for up to three digits in one word.
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// o200k tells capitals from small letters, and leaves contractions at their word.
/// Ref: openai/tiktoken, `openai_public.py`.
inline constexpr std::string_view kO200kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A rank file holds no pattern: its name says which one belongs to it.
struct RankFile {
  std::string_view name;
  std::string_view pattern;
  bool composes;  // texts are in NFC
};

inline constexpr RankFile kRankFiles[] = {
    {"tokenizer.model", kLlama3Pattern, false},
    {"cl100k_base.tiktoken", kLlama3Pattern, false},
    {"o200k_base.tiktoken", kO200kPattern, false},
    {"qwen.tiktoken", kQwen2Pattern, true},
};

/// The lines of a rank file: a token's bytes in base64, a space, its rank, which is its id.
/// @throws TokenizerError naming the line, for anything else.
inline std::vector<std::pair<std::string, int64_t>> read_ranks(std::string_view text, std::string_view place) {
  std::vector<std::pair<std::string, int64_t>> ranks;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::size_t space = std::min(line.find(' '), line.size());
    auto token = from_base64(line.substr(0, space));
    const auto rank = parse_integer<int64_t>(line.substr(std::min(space + 1, line.size())));
    if (!token || token->empty() || !rank) {
      fail<TokenizerError>("load_tokenizer", "{}: line {}: expected a token in base64 and its rank", place, number);
    }
    ranks.emplace_back(std::move(*token), *rank);
  }
  return ranks;
}

/// Whether a file begins as a rank file does. (A tokenizer.model may be one, or a SentencePiece model.)
inline bool is_rank_file(std::string_view text) {
  try {
    return !read_ranks(text.substr(0, std::min(text.find('\n'), std::size_t{4096})), "").empty();
  } catch (const TokenizerError&) {
    return false;
  }
}

/// BPE by ranks: of all neighbours that make a token, those of the lowest rank become one; a word that is a token stays.
/// So every way to cut a token in two is a merge of its rank.
/// Ref: openai/tiktoken, `_educational.py`; token strings are written as in Note [Byte-level text].
inline void read_rank_model(std::string_view text, std::string_view place, Pipeline& pipeline) {
  const auto ranks = read_ranks(text, place);
  const auto vocabulary = std::make_shared<Vocabulary>();
  TextMap<int32_t> ids;
  for (const auto& [token, rank] : ranks) {
    vocabulary->add(to_byte_level(token), rank, place);
    ids.emplace(token, static_cast<int32_t>(rank));
  }
  std::vector<BpeMerge> merges;
  for (const auto& [token, rank] : ranks) {
    const std::string_view whole = token;
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      const auto left = ids.find(whole.substr(0, cut)), right = ids.find(whole.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({left->second, right->second, static_cast<int32_t>(rank), static_cast<int32_t>(rank)});
    }
  }
  pipeline.vocabulary = vocabulary;
  pipeline.model = [bpe = Bpe(vocabulary, std::move(merges), {.ignore_merges = true})](
                       std::string_view word, std::vector<int64_t>& word_ids) { bpe.encode(word, word_ids); };
}

/// The stages around the ranks, as a tokenizer.json describes them.
inline nlohmann::json rank_file_stages(const RankFile& row) {
  nlohmann::json stages{{"decoder", {{"type", "ByteLevel"}}}};
  if (row.composes) stages["normalizer"] = {{"type", "NFC"}};
  const nlohmann::json split{{"type", "Split"}, {"pattern", {{"Regex", row.pattern}}}, {"behavior", "Isolated"}},
      byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  stages["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
  return stages;
}

}  // namespace reft::detail
