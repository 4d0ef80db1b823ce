#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reft/error.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/tokenizer_config.hpp"

namespace reft::detail {

/// Where Qwen2 cuts: contractions, words with one other character before them, single digits, runs of symbols, line ends.
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// What a class of transformers makes of its vocabulary files: one row a class.
struct FilesClass {
  std::string_view name;
  enum class Kind { gpt2, qwen2, roberta, bert } kind;
  std::string_view special;  // its special tokens, where the folder names no others
};

inline constexpr std::string_view kGpt2Special =
    R"({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})";
inline constexpr std::string_view kRobertaSpecial =
    R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>",
        "sep_token": "</s>", "mask_token": {"content": "<mask>", "lstrip": true}})";
inline constexpr std::string_view kBertSpecial =
    R"({"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"})";

/// Ref: transformers 4.57, convert_slow_tokenizer.py and the defaults of each class.
inline constexpr FilesClass kFilesClasses[] = {
    {"GPT2Tokenizer", FilesClass::Kind::gpt2, kGpt2Special},
    {"CodeGenTokenizer", FilesClass::Kind::gpt2, kGpt2Special},
    {"Qwen2Tokenizer", FilesClass::Kind::qwen2,
     R"({"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})"},
    {"RobertaTokenizer", FilesClass::Kind::roberta, kRobertaSpecial},
    {"BartTokenizer", FilesClass::Kind::roberta, kRobertaSpecial},
    {"BertTokenizer", FilesClass::Kind::bert, kBertSpecial},
    {"DistilBertTokenizer", FilesClass::Kind::bert, kBertSpecial},
    {"ElectraTokenizer", FilesClass::Kind::bert, kBertSpecial},
};

/// The row that tokenizer_config.json names by its class, or config.json by its type of model ("qwen2"), or `fallback`.
/// @throws TokenizerError for a class without a row.
inline const FilesClass& find_files_class(const JsonNode& config, const JsonNode& model, std::string_view fallback) {
  std::string name = config.string("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  const auto lower = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  const std::string by_type = lower(model.string("model_type", "")) + "tokenizer";
  const FilesClass* found = nullptr;
  for (const FilesClass& row : kFilesClasses) {
    const bool named = name.empty() ? lower(std::string(row.name)) == by_type : row.name == name;
    if (named || (name.empty() && !found && row.name == fallback)) found = &row;
    if (named) break;
  }
  if (!found) {
    config.reject("tokenizer_class \"{}\" needs a tokenizer.json: load it once with transformers' AutoTokenizer and use "
                  "save_pretrained", name);
  }
  return *found;
}

/// `config` with the `special` tokens of its class where neither it nor `map` names one; null there means none.
inline nlohmann::json with_class_defaults(std::string_view special, const JsonNode& config, const JsonNode& map) {
  nlohmann::json result = config.value();
  const nlohmann::json defaults = nlohmann::json::parse(special);
  for (const auto& [key, token] : defaults.items()) {
    if (!config.value().contains(key)) result[key] = map.has(key) ? map.at(key).value() : token;
  }
  return result;
}

/// The special tokens that `config` names, as the added tokens of a tokenizer.json.
inline nlohmann::json special_added_tokens(const JsonNode& config, const nlohmann::json& vocabulary) {
  nlohmann::json tokens = nlohmann::json::array();
  auto next_id = static_cast<int64_t>(vocabulary.size());
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto content = read_special_token(config, key);
    const auto is_same = [&](const nlohmann::json& token) { return token["content"] == *content; };
    if (!content || std::any_of(tokens.begin(), tokens.end(), is_same)) continue;
    nlohmann::json token = config.at(key).value().is_object() ? config.at(key).value() : nlohmann::json::object();
    const auto known = vocabulary.find(*content);
    token.update({{"content", *content}, {"special", true}, {"normalized", false},
                  {"id", known != vocabulary.end() ? *known : nlohmann::json(next_id++)}});
    tokens.push_back(std::move(token));
  }
  return tokens;
}

/// [token, id] of a special token, as BertProcessing and RobertaProcessing want it.
inline nlohmann::json token_and_id(const nlohmann::json& file, const JsonNode& config, std::string_view key) {
  const std::string content = read_special_token(config, key).value_or("");
  for (const auto& token : file["added_tokens"]) {
    if (token["content"] == content) return {content, token["id"]};
  }
  config.reject("\"{}\" is missing", key);
}

/// Merges as merges.txt lists them, one a line, after a first line with the version.
inline nlohmann::json read_merge_lines(std::string_view text) {
  nlohmann::json merges = nlohmann::json::array();
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(std::string(line));
  }
  return merges;
}

/// The tokenizer.json of a folder with vocab.json and merges.txt.   @param config  with the defaults of the class.
inline nlohmann::json bpe_files_as_json(const FilesClass& row, const JsonNode& config, nlohmann::json vocabulary,
                                        std::string_view merges) {
  nlohmann::json file{{"added_tokens", special_added_tokens(config, vocabulary)}, {"decoder", {{"type", "ByteLevel"}}}};
  file["model"] = {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", read_merge_lines(merges)}};
  const bool is_qwen2 = row.kind == FilesClass::Kind::qwen2;
  const nlohmann::json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", config.boolean("add_prefix_space", false)}, {"use_regex", !is_qwen2}};
  file["pre_tokenizer"] = byte_level;
  if (is_qwen2) {
    const nlohmann::json split{{"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}, {"behavior", "Isolated"}};
    file["normalizer"] = {{"type", "NFC"}};
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
  }
  if (row.kind == FilesClass::Kind::gpt2 && config.boolean("add_bos_token", false)) {
    const auto bos = token_and_id(file, config, "bos_token");
    const nlohmann::json before{{"SpecialToken", {{"id", bos[0]}}}}, first{{"Sequence", {{"id", "A"}}}},
        second{{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    file["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {before, first}}, {"pair", {before, first, second}}};
    file["post_processor"]["special_tokens"][bos[0].get<std::string>()] = {{"ids", nlohmann::json::array({bos[1]})}};
  }
  if (row.kind == FilesClass::Kind::roberta) {
    file["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", token_and_id(file, config, "cls_token")},
                              {"sep", token_and_id(file, config, "sep_token")}};
  }
  return file;
}

/// The tokenizer.json of a folder with a vocab.txt, one token a line.   @param config  with the defaults of the class.
inline nlohmann::json wordpiece_file_as_json(const JsonNode& config, std::string_view lines) {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (int64_t id = 0; !lines.empty(); ++id) {
    std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    vocabulary[std::string(line)] = id;  // of equal lines the last one counts
  }
  nlohmann::json file{{"added_tokens", special_added_tokens(config, vocabulary)}};
  const bool lowercase = config.boolean("do_lower_case", true);
  file["model"] = {{"type", "WordPiece"}, {"vocab", std::move(vocabulary)}, {"unk_token", *read_special_token(config, "unk_token")}};
  file["normalizer"] = {{"type", "BertNormalizer"},
                        {"handle_chinese_chars", config.boolean("tokenize_chinese_chars", true)},
                        {"strip_accents", config.boolean("strip_accents", lowercase)},
                        {"lowercase", lowercase}};
  file["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  file["decoder"] = {{"type", "WordPiece"}};
  file["post_processor"] = {{"type", "BertProcessing"}, {"cls", token_and_id(file, config, "cls_token")},
                            {"sep", token_and_id(file, config, "sep_token")}};
  return file;
}

}  // namespace reft::detail
