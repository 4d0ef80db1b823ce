#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/pipeline_tokenizer.hpp"
#include "reft/tokenizer/sentencepiece.hpp"
#include "reft/tokenizer/sentencepiece_files.hpp"
#include "reft/tokenizer/tiktoken.hpp"
#include "reft/tokenizer/tokenizer_config.hpp"
#include "reft/tokenizer/tokenizer_interface.hpp"
#include "reft/tokenizer/tokenizer_json.hpp"
#include "reft/tokenizer/vocabulary_files.hpp"

namespace reft::detail {

/// A folder with the files of a tokenizer, of whatever age.
class TokenizerFolder {
 public:
  explicit TokenizerFolder(std::filesystem::path folder)
      : folder_(std::move(folder)), config_(parse_optional("tokenizer_config.json")),
        map_(parse_optional("special_tokens_map.json")), model_(parse_optional("config.json")) {}

  /// The newest kind of file that is there counts.
  /// @throws TokenizerError naming file and place, for what is missing, malformed or not supported.
  std::shared_ptr<const TokenizerInterface> read() {
    if (has("tokenizer.json")) return read_json(parse_tokenizer_file(folder_ / "tokenizer.json"));
    if (has("vocab.json") && has("merges.txt")) {
      const FilesClass& row = take_class("GPT2Tokenizer");
      auto vocabulary = parse_tokenizer_file(folder_ / "vocab.json");
      const std::string merges = to_valid_utf8(read_tokenizer_file(folder_ / "merges.txt"));
      return read_json(bpe_files_as_json(row, config(), std::move(vocabulary), merges));
    }
    if (has("vocab.txt")) {
      take_class("BertTokenizer");
      return read_json(wordpiece_file_as_json(config(), to_valid_utf8(read_tokenizer_file(folder_ / "vocab.txt"))));
    }
    for (const RankFile& row : kRankFiles) {
      if (!has(row.name)) continue;
      std::string file = read_tokenizer_file(folder_ / row.name);
      if (is_rank_file(file)) return read_rank_file(row, file);
      if (row.name == "tokenizer.model") return read_sentencepiece_file(std::move(file));
      node(config_, row.name).reject("expected ranks, a token in base64 and its rank in each line");
    }
    std::error_code ignored;
    fail<TokenizerError>("load_tokenizer", "{}: expected a folder with a tokenizer.json (or vocab.json and merges.txt, vocab.txt, "
                         "tokenizer.model, cl100k_base.tiktoken, o200k_base.tiktoken, qwen.tiktoken), got {}", folder_.string(),
                         std::filesystem::is_directory(folder_, ignored) ? "one without"
                         : std::filesystem::exists(folder_, ignored)     ? "a file"
                                                                         : "no such folder");
  }

  /// tokenizer_config.json, after read() with the special tokens of the class where the files themselves name none.
  JsonNode config() const { return node(config_, "tokenizer_config.json"); }
  JsonNode map() const { return node(map_, "special_tokens_map.json"); }

 private:
  bool has(std::string_view name) const {
    std::error_code ignored;
    return std::filesystem::exists(folder_ / name, ignored);
  }

  nlohmann::json parse_optional(const char* name) const { return parse_optional_file(folder_ / name); }

  JsonNode node(const nlohmann::json& value, std::string_view name) const { return {value, (folder_ / name).string()}; }

  /// The class of a folder without tokenizer.json; its special tokens are from now on in the configuration.
  const FilesClass& take_class(std::string_view fallback) {
    const FilesClass& row = find_files_class(config(), node(model_, "config.json"), fallback);
    config_ = with_class_defaults(row.special, config(), map());
    return row;
  }

  TokenizerConfig read_config() const { return read_tokenizer_config(config(), map(), node(model_, "config.json")); }

  static std::shared_ptr<const TokenizerInterface> made_of(Pipeline pipeline) {
    return std::make_shared<PipelineTokenizer>(std::move(pipeline));
  }

  std::shared_ptr<const TokenizerInterface> read_json(const nlohmann::json& file) const {
    return made_of(read_pipeline(node(file, "tokenizer.json"), read_config()));
  }

  std::shared_ptr<const TokenizerInterface> read_rank_file(const RankFile& row, std::string_view file) const {
    const std::string path = (folder_ / row.name).string();
    Pipeline pipeline;
    read_rank_model(file, path, pipeline);
    const nlohmann::json stages = rank_file_stages(row);
    read_stages(JsonNode(stages, path), read_config(), pipeline);
    return made_of(std::move(pipeline));
  }

  std::shared_ptr<const TokenizerInterface> read_sentencepiece_file(std::string file) {
    const SentencePieceClass& row = find_sentencepiece_class(config(), node(model_, "config.json"));
    config_ = with_class_defaults(row.special, config(), map());
    config_["tokenizer_class"] = row.name;
    const nlohmann::json added = parse_optional("added_tokens.json"), none;
    auto settings = read_sentencepiece_settings(row, config(), map(), node(added, "added_tokens.json"), node(model_, "config.json"));
    return read_sentencepiece(std::move(file), std::move(settings), node(none, "tokenizer.model"));
  }

  std::filesystem::path folder_;
  nlohmann::json config_, map_, model_;
};

}  // namespace reft::detail

namespace reft {

/// The files of `folder` that make up its tokenizer; none where it has no tokenizer.
inline std::vector<std::filesystem::path> find_tokenizer_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  const auto add = [&](std::string_view name) {
    std::error_code ignored;
    if (std::filesystem::exists(folder / name, ignored)) files.push_back(folder / name);
  };
  for (const char* name : {"tokenizer.json", "vocab.json", "vocab.txt"}) add(name);
  for (const detail::RankFile& row : detail::kRankFiles) add(row.name);
  if (files.empty()) return files;
  for (const char* name : {"merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"}) add(name);
  return files;
}

}  // namespace reft
