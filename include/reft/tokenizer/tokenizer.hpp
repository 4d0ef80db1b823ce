#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/hook/parse_integer.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/tokenizer_json.hpp"

namespace reft {

/// What a tokenizer does; derive from it to bring your own.
class TokenizerInterface {
 public:
  virtual ~TokenizerInterface() = default;
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const = 0;
  virtual std::optional<int64_t> id_of(std::string_view token) const = 0;
  virtual std::optional<std::string> token_of(int64_t id) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual std::optional<int64_t> bos_token_id() const = 0;
  virtual std::optional<int64_t> eos_token_id() const = 0;
  virtual std::optional<int64_t> pad_token_id() const = 0;
  virtual std::optional<int64_t> unk_token_id() const = 0;
};

/// Text to token ids and back. A handle: copies share one immutable tokenizer, which many threads may use at once.
class Tokenizer {
 public:
  explicit Tokenizer(std::shared_ptr<const TokenizerInterface> implementation) : implementation_(std::move(implementation)) {}

  /// Any bytes; ill-formed UTF-8 counts as U+FFFD.   @throws TokenizerError for text the vocabulary cannot express.
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const {
    return implementation_->encode(text, add_special_tokens);
  }

  /// Ids that are no tokens are left out.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const {
    return implementation_->decode(ids, skip_special_tokens);
  }

  std::optional<int64_t> id_of(std::string_view token) const { return implementation_->id_of(token); }
  std::optional<std::string> token_of(int64_t id) const { return implementation_->token_of(id); }
  /// One more than the largest id.
  int64_t vocabulary_size() const { return implementation_->vocabulary_size(); }

  std::optional<int64_t> bos_token_id() const { return implementation_->bos_token_id(); }
  std::optional<int64_t> eos_token_id() const { return implementation_->eos_token_id(); }
  std::optional<int64_t> pad_token_id() const { return implementation_->pad_token_id(); }
  std::optional<int64_t> unk_token_id() const { return implementation_->unk_token_id(); }

 private:
  std::shared_ptr<const TokenizerInterface> implementation_;
};

/// Decodes ids as they come, never handing out part of a UTF-8 character.
class TokenStream {
 public:
  explicit TokenStream(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// @return the text that the new id completes; empty while a character is unfinished.
  std::string add(int64_t id) {
    ids_.push_back(id);
    const std::string text = tokenizer_.decode(ids_);
    // An unfinished character shows as U+FFFD at the end: wait for the bytes that complete it.
    if (text.size() <= printed_ || text.ends_with(detail::kReplacementCharacter)) return {};
    return take(text);
  }

  /// What is left at the end, unfinished characters as U+FFFD.
  std::string flush() { return take(tokenizer_.decode(ids_)); }

 private:
  std::string take(const std::string& text) {
    std::string fresh = text.substr(std::min(printed_, text.size()));
    printed_ = text.size();
    return fresh;
  }

  Tokenizer tokenizer_;
  std::vector<int64_t> ids_;
  std::size_t printed_ = 0;  // bytes handed out
};

namespace detail {

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

  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override {
    return decode_ids(pipeline_, ids, skip_special_tokens);
  }

  std::optional<int64_t> id_of(std::string_view token) const override {
    const int64_t id = pipeline_.id_of(token);
    return id < 0 ? std::nullopt : std::optional(id);
  }

  std::optional<std::string> token_of(int64_t id) const override {
    const std::string* token = pipeline_.token_of(id);
    return token == nullptr ? std::nullopt : std::optional(*token);
  }

  int64_t vocabulary_size() const override {
    return std::max(pipeline_.vocabulary->end_id(), pipeline_.added_tokens.names().end_id());
  }
  std::optional<int64_t> bos_token_id() const override { return pipeline_.special.bos; }
  std::optional<int64_t> eos_token_id() const override { return pipeline_.special.eos; }
  std::optional<int64_t> pad_token_id() const override { return pipeline_.special.pad; }
  std::optional<int64_t> unk_token_id() const override { return pipeline_.special.unk; }

 private:
  Pipeline pipeline_;
};

/// One JSON file of a tokenizer folder; an empty object where it is missing and `optional`.
inline nlohmann::json read_tokenizer_file(const std::filesystem::path& path, bool optional) {
  if (!std::filesystem::exists(path)) {
    if (optional) return nlohmann::json::object();
    fail<TokenizerError>("load_tokenizer", "{}: no such file; expected a folder with a tokenizer.json", path.string());
  }
  try {
    return nlohmann::json::parse(MappedFile::open(path)->text());
  } catch (const nlohmann::json::exception&) {
    fail<TokenizerError>("load_tokenizer", "{}: not valid JSON", path.string());
  } catch (const CheckpointError& error) {
    throw TokenizerError(error.what());
  }
}

/// A special token is written as its text or as an object with its content.
inline std::optional<std::string> special_token_text(const JsonNode& config, std::string_view key) {
  if (!config.has(key)) return std::nullopt;
  const JsonNode token = config.at(key);
  return token.value().is_object() ? token.string("content") : token.string();
}

/// Added tokens of tokenizer.json, then those that only tokenizer_config.json knows.
inline std::vector<AddedToken> all_added_tokens(const JsonNode& root, const JsonNode& config) {
  std::vector<AddedToken> tokens;
  if (root.has("added_tokens")) tokens = read_added_tokens(root.at("added_tokens"));
  if (!config.has("added_tokens_decoder")) return tokens;
  const JsonNode decoder = config.at("added_tokens_decoder");
  for (const auto& [key, value] : decoder.value().items()) {
    const JsonNode node(value, decoder.path() + "." + key);
    const auto id = parse_integer<int64_t>(key);
    if (!id || *id < 0 || *id > kLargestTokenId) node.reject("expected an id from 0 to {}", kLargestTokenId);
    const bool known = std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& token) { return token.id == *id; });
    if (!known) tokens.push_back(read_added_token(node, *id));
  }
  return tokens;
}

/// Transformers' classes for Llama and Gemma replace the file's post-processor by what add_bos_token and add_eos_token
/// say; all others leave it as it is.
inline void apply_class_rules(Pipeline& pipeline, const JsonNode& config) {
  const std::string name = config.string("tokenizer_class", "");
  if (!name.starts_with("LlamaTokenizer") && !name.starts_with("CodeLlamaTokenizer") && !name.starts_with("GemmaTokenizer")) return;
  PostProcessor& processor = pipeline.post_processor;
  processor = {};
  if (config.boolean("add_bos_token", true) && pipeline.special.bos) processor.before = {*pipeline.special.bos};
  if (config.boolean("add_eos_token", false) && pipeline.special.eos) processor.after = {*pipeline.special.eos};
}

}  // namespace detail

/// Reads `folder`/tokenizer.json and, where they are, tokenizer_config.json and special_tokens_map.json.
/// @throws TokenizerError naming file and place, for what is missing, malformed or not supported.
inline Tokenizer load_tokenizer(const std::filesystem::path& folder) {
  const nlohmann::json file = detail::read_tokenizer_file(folder / "tokenizer.json", false);
  const nlohmann::json config_file = detail::read_tokenizer_file(folder / "tokenizer_config.json", true);
  const nlohmann::json map_file = detail::read_tokenizer_file(folder / "special_tokens_map.json", true);
  const detail::JsonNode root(file, "tokenizer.json"), config(config_file, "tokenizer_config.json"),
      map(map_file, "special_tokens_map.json");
  detail::Pipeline pipeline = detail::read_pipeline(root, detail::all_added_tokens(root, config));
  for (const auto& [key, id] : {std::pair("bos_token", &pipeline.special.bos), std::pair("eos_token", &pipeline.special.eos),
                                std::pair("pad_token", &pipeline.special.pad), std::pair("unk_token", &pipeline.special.unk)}) {
    auto text = detail::special_token_text(config, key);
    if (!text) text = detail::special_token_text(map, key);
    if (!text) continue;
    if (const int64_t found = pipeline.id_of(*text); found >= 0) *id = found;
  }
  detail::apply_class_rules(pipeline, config);
  return Tokenizer(std::make_shared<detail::PipelineTokenizer>(std::move(pipeline)));
}

}  // namespace reft
