#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "reft/tokenizer/chat_template.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/tokenizer_config.hpp"

namespace reft {

namespace detail {

/// "chat_template": one template, or [{"name": …, "template": …}, …].
inline std::map<std::string, std::string> read_chat_templates(const JsonNode& config) {
  if (!config.has("chat_template")) return {};
  const JsonNode node = config.at("chat_template");
  if (node.value().is_string()) return {{"default", node.string()}};
  std::map<std::string, std::string> templates;
  for (const JsonNode& element : node.elements()) templates[element.string("name")] = element.string("template");
  return templates;
}

inline std::map<std::string, std::string> find_chat_templates(const std::filesystem::path& folder, const JsonNode& config) {
  std::error_code ignored;
  const std::filesystem::path own = folder / "chat_template.jinja", old = folder / "chat_template.json";
  if (std::filesystem::exists(own, ignored)) return {{"default", read_tokenizer_file(own)}};
  if (auto templates = read_chat_templates(config); !templates.empty()) return templates;
  const nlohmann::json file = parse_optional_file(old);
  return read_chat_templates(JsonNode(file, old.string()));
}

/// The texts of the special tokens, as templates know them.
inline nlohmann::ordered_json special_token_texts(const JsonNode& config, const JsonNode& map) {
  auto texts = nlohmann::ordered_json::object();
  for (const std::string name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto text = read_special_token(config, map, name);
    if (text) texts[name] = *text;
  }
  return texts;
}

/// @return null where the folder has no template.
inline std::shared_ptr<const ChatTemplate> find_chat_template(const std::filesystem::path& folder, const JsonNode& config,
                                                              const JsonNode& map) {
  const auto templates = find_chat_templates(folder, config);
  if (templates.empty()) return nullptr;
  return std::make_shared<const ChatTemplate>(templates, special_token_texts(config, map));
}

}  // namespace detail

/// Reads the chat template of a model's folder: chat_template.jinja, or what tokenizer_config.json or chat_template.json
/// hold; and from tokenizer_config.json and special_tokens_map.json the special tokens.
/// @throws TokenizerError where there is none, or a file is malformed.
inline ChatTemplate load_chat_template(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "tokenizer_config.json", map_path = folder / "special_tokens_map.json";
  const auto config = detail::parse_optional_file(config_path), map = detail::parse_optional_file(map_path);
  const auto found = detail::find_chat_template(folder, detail::JsonNode(config, config_path.string()),
                                                detail::JsonNode(map, map_path.string()));
  if (!found) {
    fail<TokenizerError>("load_chat_template", "{}: expected a chat template in chat_template.jinja, tokenizer_config.json or "
                         "chat_template.json, got none", folder.string());
  }
  return *found;
}

}  // namespace reft
