#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/tokenizer_config.hpp"
#include "reft/tokenizer/tokenizer_json.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

/// What a class of transformers does around the SentencePiece model of its folder: one row a class.
struct SentencePieceClass {
  std::string_view name;
  std::string_view special;  // its special tokens, where the folder names no others
  bool joins_special;        // decoding takes special tokens for parts of the text around them; else they stand alone
};

/// Ref: transformers 4.57, LlamaTokenizer and GemmaTokenizer.
inline constexpr SentencePieceClass kSentencePieceClasses[] = {
    {"LlamaTokenizer", R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})", true},
    {"GemmaTokenizer", R"({"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"})", false},
};

/// The row that tokenizer_config.json names by its class, or config.json by its type of model; Llama's where neither does.
/// @throws TokenizerError for a class without a row.
inline const SentencePieceClass& find_sentencepiece_class(const JsonNode& config, const JsonNode& model) {
  const bool is_gemma = model.string("model_type", "").starts_with("gemma");
  std::string name = config.string("tokenizer_class", is_gemma ? "GemmaTokenizer" : "LlamaTokenizer");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  for (const SentencePieceClass& row : kSentencePieceClasses) {
    if (row.name == name) return row;
  }
  config.reject("tokenizer_class \"{}\" needs a tokenizer.json: load it once with transformers' AutoTokenizer and use "
                "save_pretrained", name);
}

/// What the files beside a tokenizer.model say of it.
struct SentencePieceSettings {
  bool joins_special = true;
  bool legacy = true;            // every stretch of text between added tokens gets the model's own prefix, else only the first
  bool add_prefix_space = true;  // whether that is so where `legacy` is not, and whether decoding takes a space off
  TokenizerConfig config;
  std::vector<std::string> special;     // all special tokens
  std::vector<std::string> additional;  // those among them without a role
  std::vector<AddedToken> added;        // those of the files; without the special tokens that no file gives an id
};

/// Texts or objects with a content.
inline std::vector<std::string> read_token_texts(const JsonNode& node, std::string_view key) {
  std::vector<std::string> texts;
  if (!node.has(key)) return texts;
  for (const JsonNode& token : node.at(key).elements()) {
    texts.push_back(token.value().is_object() ? token.string("content") : token.string());
  }
  return texts;
}

/// @param config  tokenizer_config.json with the defaults of the class, @param map special_tokens_map.json, @param added
///                added_tokens.json, the older form of the configuration's added_tokens_decoder.
inline SentencePieceSettings read_sentencepiece_settings(const SentencePieceClass& row, const JsonNode& config, const JsonNode& map,
                                                         const JsonNode& added, const JsonNode& model) {
  SentencePieceSettings settings{.joins_special = row.joins_special,
                                 .legacy = !row.joins_special || config.boolean("legacy", true),
                                 .add_prefix_space = config.boolean("add_prefix_space", true),
                                 .config = read_tokenizer_config(config, map, model)};
  const auto add = [](std::vector<std::string>& names, const std::string& name) {
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    add(settings.special, read_special_token(config, map, key).value_or(""));
  }
  const bool is_newer = config.has("added_tokens_decoder");
  settings.additional = read_token_texts(config, "additional_special_tokens");
  if (!is_newer) {
    for (const std::string& name : read_token_texts(map, "additional_special_tokens")) add(settings.additional, name);
  }
  for (const std::string& name : settings.additional) add(settings.special, name);
  settings.added = std::move(settings.config.added_tokens);
  if (is_newer) return settings;
  for (const auto& [content, id] : added.value().items()) {
    settings.added.push_back({.id = added.member(content, id).number(), .content = content});
  }
  return settings;
}

/// All tokens that are looked for in the text itself. A special token that the model lacks takes the next free id.
/// @throws TokenizerError, speaking of `place`, where one disagrees with the model about an id.
inline std::vector<AddedToken> sentencepiece_added_tokens(const SentencePieceSettings& settings, const Vocabulary& vocabulary,
                                                          const JsonNode& place) {
  std::vector<AddedToken> tokens = settings.added;
  int64_t next_id = vocabulary.end_id();
  for (AddedToken& token : tokens) {
    check_added_token(token, vocabulary, place);
    next_id = std::max(next_id, token.id + 1);
  }
  for (const std::string& name : settings.special) {
    if (std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& token) { return token.content == name; })) continue;
    const int64_t id = vocabulary.find(name);
    tokens.push_back({.id = id >= 0 ? id : next_id++, .content = name, .special = true});
  }
  for (AddedToken& token : tokens) token.normalized = false;  // these classes normalize nothing before
  return tokens;
}

}  // namespace reft::detail
