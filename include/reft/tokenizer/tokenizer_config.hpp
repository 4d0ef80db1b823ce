#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reft/hook/parse_integer.hpp"
#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/json_node.hpp"

namespace reft::detail {

/// What the files beside tokenizer.json add to it or change of it.
struct TokenizerConfig {
  /// Which special tokens a text gets in place of the post-processor's.
  struct Ends {
    bool bos, eos;
  };

  std::optional<std::string> bos_token, eos_token, pad_token, unk_token;
  std::optional<int64_t> bos_token_id, eos_token_id;  // where no text names them
  std::vector<AddedToken> added_tokens;
  std::optional<bool> add_prefix_space;  // of a ByteLevel pre-tokenizer
  std::optional<Ends> ends;

  /// The texts of the special tokens, each once.
  std::vector<std::string> special_names() const {
    std::vector<std::string> names;
    for (const auto* name : {&bos_token, &eos_token, &unk_token, &pad_token}) {
      if (*name && std::find(names.begin(), names.end(), **name) == names.end()) names.push_back(**name);
    }
    return names;
  }
};

inline AddedToken read_added_token(const JsonNode& node, int64_t id) {
  AddedToken token;
  token.id = id;
  token.content = node.string("content");
  token.special = node.boolean("special", false);
  token.single_word = node.boolean("single_word", false);
  token.lstrip = node.boolean("lstrip", false);
  token.rstrip = node.boolean("rstrip", false);
  token.normalized = node.boolean("normalized", !token.special);
  return token;
}

/// {"32000": {"content": …}, …}
inline std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& node) {
  if (!node.value().is_object()) node.reject("expected an object, got {}", node.value().type_name());
  std::vector<AddedToken> tokens;
  for (const auto& [key, value] : node.value().items()) {
    const JsonNode token = node.member(key, value);
    const auto id = parse_integer<int64_t>(key);
    if (!id || *id < 0 || *id > kLargestTokenId) token.reject("expected an id from 0 to {} as key", kLargestTokenId);
    tokens.push_back(read_added_token(token, *id));
  }
  std::sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return tokens;
}

/// Some classes of transformers write their own post-processor from add_bos_token and add_eos_token; all others keep
/// the file's, whatever those flags say.
/// Ref: transformers 4.57, the `update_post_processor` of each class.
inline std::optional<TokenizerConfig::Ends> read_ends(const JsonNode& config) {
  struct ClassRule {
    std::string_view name;
    bool adds_bos;
  };
  static constexpr ClassRule kRules[] = {
      {"LlamaTokenizer", true},  {"CodeLlamaTokenizer", true}, {"GemmaTokenizer", true},
      {"CohereTokenizer", true}, {"GPTNeoXTokenizer", false},
  };
  std::string name = config.string("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  for (const ClassRule& rule : kRules) {
    if (name != rule.name) continue;
    return TokenizerConfig::Ends{config.boolean("add_bos_token", rule.adds_bos),
                                 config.boolean("add_eos_token", false)};
  }
  return std::nullopt;
}

/// A special token is written as its text or as an object with its content.
inline std::optional<std::string> read_special_token(const JsonNode& node, std::string_view key) {
  if (!node.has(key)) return std::nullopt;
  const JsonNode token = node.at(key);
  std::string text = token.value().is_object() ? token.string("content") : token.string();
  return text.empty() ? std::nullopt : std::optional(std::move(text));
}

/// The map is older: it counts where the configuration does not list the added tokens.
inline std::optional<std::string> read_special_token(const JsonNode& config, const JsonNode& map, std::string_view key) {
  const auto text = config.has("added_tokens_decoder") ? std::nullopt : read_special_token(map, key);
  return text ? text : read_special_token(config, key);
}

/// An id, or the first of several.
inline std::optional<int64_t> read_token_id(const JsonNode& node, std::string_view key) {
  if (!node.has(key)) return std::nullopt;
  const JsonNode id = node.at(key);
  if (!id.value().is_array()) return id.value().is_number_unsigned() ? std::optional(id.number()) : std::nullopt;
  const auto ids = id.elements();
  return ids.empty() ? std::nullopt : std::optional(ids.front().number());
}

/// @param config  tokenizer_config.json, @param map special_tokens_map.json, @param model config.json of the model:
///                each an empty object where there is no such file.
/// @throws TokenizerError naming the place, for what is malformed.
inline TokenizerConfig read_tokenizer_config(const JsonNode& config, const JsonNode& map, const JsonNode& model) {
  TokenizerConfig result;
  result.bos_token = read_special_token(config, map, "bos_token");
  result.eos_token = read_special_token(config, map, "eos_token");
  result.pad_token = read_special_token(config, map, "pad_token");
  result.unk_token = read_special_token(config, map, "unk_token");
  result.bos_token_id = read_token_id(model, "bos_token_id");
  result.eos_token_id = read_token_id(model, "eos_token_id");
  if (config.has("added_tokens_decoder")) result.added_tokens = read_added_tokens_decoder(config.at("added_tokens_decoder"));
  if (!config.value().empty()) result.add_prefix_space = config.boolean("add_prefix_space", false);
  result.ends = read_ends(config);
  return result;
}

}  // namespace reft::detail
