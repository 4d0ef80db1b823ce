#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/bpe.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/tokenizer_config.hpp"
#include "reft/tokenizer/unigram.hpp"
#include "reft/tokenizer/wordpiece.hpp"

namespace reft::detail {

inline std::shared_ptr<const Vocabulary> read_vocabulary(const JsonNode& node) {
  if (!node.value().is_object()) node.reject("expected an object, got {}", node.value().type_name());
  const auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [token, id] : node.value().items())
    vocabulary->add(token, node.member(token, id).number(), node.path());
  return vocabulary;
}

/// The two halves of a merge, written "left right" or ["left", "right"].
inline std::pair<std::string, std::string> read_merge_line(const nlohmann::json& line, const JsonNode& node) {
  if (line.is_array() && line.size() == 2 && line[0].is_string() && line[1].is_string()) {
    return {line[0].get<std::string>(), line[1].get<std::string>()};
  }
  if (!line.is_string()) node.reject("expected \"left right\" or [\"left\", \"right\"], got {}", line.type_name());
  const std::string text = line.get<std::string>();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    node.reject("expected two tokens with one space between, got \"{}\"", text);
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

/// The merges of a model, ranked by their line.
inline std::vector<BpeMerge> read_merges(const JsonNode& node, const Vocabulary& vocabulary,
                                         std::string_view continuing_prefix) {
  if (!node.value().is_array()) node.reject("expected an array, got {}", node.value().type_name());
  std::vector<BpeMerge> merges;
  merges.reserve(node.value().size());
  for (const auto& line : node.value()) {
    const auto [left, right] = read_merge_line(line, node);
    const auto id_of = [&](const std::string& token) {
      const int32_t id = vocabulary.find(token);
      if (id < 0) {
        node.reject("merge {} (\"{}\" + \"{}\") needs the token \"{}\", which is not in the vocabulary", merges.size(),
                    left, right, token);
      }
      return id;
    };
    if (!right.starts_with(continuing_prefix)) {
      node.reject("merge {}: expected \"{}\" to start with the prefix \"{}\"", merges.size(), right, continuing_prefix);
    }
    merges.push_back({id_of(left), id_of(right), static_cast<int32_t>(merges.size()),
                      id_of(left + right.substr(continuing_prefix.size()))});
  }
  return merges;
}

/// A model's own unknown token is the tokenizer's, unless a configuration names another.
inline void name_unknown_token(Pipeline& pipeline, std::string_view token) {
  if (const int32_t id = pipeline.vocabulary->find(token); id >= 0) pipeline.special.unk = id;
}

template <class Model>
void set_word_model(Pipeline& pipeline, Model model) {
  pipeline.model = [model = std::move(model)](std::string_view word, std::vector<int64_t>& ids) { model.encode(word, ids); };
}

inline void read_bpe(const JsonNode& node, Pipeline& pipeline) {
  if (node.has("dropout") && node.at("dropout").value() != 0.0) {
    node.at("dropout").reject("merges dropped at random are not supported: set it to null");
  }
  BpeOptions options;
  if (node.has("unk_token")) options.unknown_token = node.string("unk_token");
  options.continuing_subword_prefix = node.string("continuing_subword_prefix", "");
  options.end_of_word_suffix = node.string("end_of_word_suffix", "");
  options.fuse_unknown = node.boolean("fuse_unk", false);
  options.byte_fallback = node.boolean("byte_fallback", false);
  options.ignore_merges = node.boolean("ignore_merges", false);
  pipeline.vocabulary = read_vocabulary(node.at("vocab"));
  auto merges = read_merges(node.at("merges"), *pipeline.vocabulary, options.continuing_subword_prefix);
  set_word_model(pipeline, Bpe(pipeline.vocabulary, std::move(merges), options));
  if (options.unknown_token) name_unknown_token(pipeline, *options.unknown_token);
}

inline void read_wordpiece(const JsonNode& node, Pipeline& pipeline) {
  WordPieceOptions options;
  options.unknown_token = node.string("unk_token", options.unknown_token);
  options.continuing_subword_prefix = node.string("continuing_subword_prefix", options.continuing_subword_prefix);
  if (node.has("max_input_chars_per_word")) options.longest_word = node.at("max_input_chars_per_word").number();
  pipeline.vocabulary = read_vocabulary(node.at("vocab"));
  set_word_model(pipeline, WordPiece(pipeline.vocabulary, options));
  name_unknown_token(pipeline, options.unknown_token);
}

/// The vocabulary is [[token, score], …], in the order of the ids.
inline void read_unigram(const JsonNode& node, Pipeline& pipeline) {
  const auto vocabulary = std::make_shared<Vocabulary>();
  std::vector<double> scores;
  for (const JsonNode& entry : node.at("vocab").elements()) {
    const auto& pair = entry.value();
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number()) {
      entry.reject("expected [token, score], got {}", pair.type_name());
    }
    vocabulary->add(pair[0].get<std::string>(), std::ssize(scores), entry.path());
    scores.push_back(pair[1].get<double>());
  }
  UnigramOptions options{.byte_fallback = node.boolean("byte_fallback", false)};
  if (node.has("unk_id")) {
    options.unknown_id = node.at("unk_id").number();
    const std::string* token = vocabulary->token(*options.unknown_id);
    if (!token) node.at("unk_id").reject("{} is not the id of a token", *options.unknown_id);
    pipeline.special.unk = options.unknown_id;
  }
  pipeline.vocabulary = vocabulary;
  set_word_model(pipeline, Unigram(vocabulary, std::move(scores), options));
}

/// Files before tokenizers 0.8 leave the type out where it is plain from the keys.
inline std::string read_model_type(const JsonNode& node) {
  const bool has_scores = node.has("vocab") && node.at("vocab").value().is_array();
  return node.string("type", node.has("merges")                     ? "BPE"
                             : has_scores                           ? "Unigram"
                             : node.has("max_input_chars_per_word") ? "WordPiece"
                                                                    : "");
}

inline void read_model(const JsonNode& node, Pipeline& pipeline) {
  static constexpr std::pair<std::string_view, void (*)(const JsonNode&, Pipeline&)> kModels[] = {
      {"BPE", &read_bpe}, {"Unigram", &read_unigram}, {"WordPiece", &read_wordpiece}};
  const std::string type = read_model_type(node);
  for (const auto& [name, read] : kModels) {
    if (name == type) return read(node, pipeline);
  }
  node.reject("model \"{}\" is not supported (supported: BPE Unigram WordPiece)", type);
}

/// An added token and the model's vocabulary must not disagree about an id.
inline void check_added_token(const AddedToken& token, const Vocabulary& vocabulary, const JsonNode& node) {
  const int32_t id = vocabulary.find(token.content);
  if (id >= 0 && id != token.id) {
    node.reject("added token \"{}\" has id {}, but {} in the vocabulary", token.content, token.id, id);
  }
  const std::string* other = vocabulary.token(token.id);
  if (other && *other != token.content) {
    node.reject("added token \"{}\" has id {}, which is \"{}\" in the vocabulary", token.content, token.id, *other);
  }
}

/// The added tokens of the file, with the flags the configuration beside it gives them; then those that only the
/// configuration knows. A special token that is named there and nowhere else takes the next free id.
inline std::vector<AddedToken> read_added_tokens(const JsonNode& root, const TokenizerConfig& config,
                                                 const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  const auto find = [&](std::string_view content) {
    return std::find_if(tokens.begin(), tokens.end(),
                        [&](const AddedToken& token) { return token.content == content; });
  };
  if (root.has("added_tokens")) {
    for (const JsonNode& node : root.at("added_tokens").elements()) {
      tokens.push_back(read_added_token(node, node.at("id").number()));
      check_added_token(tokens.back(), vocabulary, node);
    }
  }
  for (AddedToken token : config.added_tokens) {
    const auto known = find(token.content);
    if (known == tokens.end()) {
      check_added_token(tokens.emplace_back(std::move(token)), vocabulary, root);
    } else {
      token.id = known->id;
      *known = std::move(token);
    }
  }
  int64_t next_id = vocabulary.end_id();
  for (const AddedToken& token : tokens) next_id = std::max(next_id, token.id + 1);
  for (const std::string& name : config.special_names()) {
    if (find(name) != tokens.end()) continue;
    const int64_t id = vocabulary.find(name);
    tokens.push_back({.id = id >= 0 ? id : next_id++, .content = name, .normalized = false, .special = true});
  }
  return tokens;
}

/// The first text's id goes before an id of the configuration, that before what the model itself says.
inline void name_special_tokens(Pipeline& pipeline, const TokenizerConfig& config) {
  const auto name = [&](std::optional<int64_t>& id, const std::optional<std::string>& text,
                        std::optional<int64_t> fallback) {
    if (text) id = pipeline.id_of(*text);
    else if (fallback && pipeline.token_of(*fallback)) id = fallback;
  };
  name(pipeline.special.bos, config.bos_token, config.bos_token_id);
  name(pipeline.special.eos, config.eos_token, config.eos_token_id);
  name(pipeline.special.pad, config.pad_token, {});
  name(pipeline.special.unk, config.unk_token, {});
}

inline PreTokenizer read_pre_tokenizer(const JsonNode& root, const TokenizerConfig& config) {
  if (!root.has("pre_tokenizer")) return nullptr;
  nlohmann::json value = root.at("pre_tokenizer").value();
  if (config.add_prefix_space && value.is_object() && value.value("type", nlohmann::json()) == "ByteLevel") {
    value["add_prefix_space"] = *config.add_prefix_space;
  }
  return make_pre_tokenizer(root.member("pre_tokenizer", value));
}

/// The file's own special tokens around a text, or those the configuration's class puts in their place.
inline PostProcessor read_post_processor(const JsonNode& root, const TokenizerConfig& config,
                                         const SpecialTokenIds& special) {
  PostProcessor result;
  if (config.ends) {
    const auto add = [&](std::vector<int64_t>& ids, bool wanted, std::optional<int64_t> id, std::string_view name) {
      if (!wanted) return;
      if (!id) root.reject("the tokenizer class adds the {0} token to every text, but there is no {0}_token", name);
      ids = {*id};
    };
    add(result.before, config.ends->bos, special.bos, "bos");
    add(result.after, config.ends->eos, special.eos, "eos");
    result.pair.clear();
    for (const int text : {0, 1}) {
      result.pair.push_back({.ids = result.before, .type_id = text});
      result.pair.push_back({.text = text, .type_id = text});
      result.pair.push_back({.ids = result.after, .type_id = text});
    }
  } else if (root.has("post_processor")) {
    result = make_post_processor(root.at("post_processor"));
  }
  return result;
}

/// What stands around the model of `pipeline`, which is there already.
inline void read_stages(const JsonNode& root, const TokenizerConfig& config, Pipeline& pipeline) {
  if (root.has("normalizer")) pipeline.normalizer = make_normalizer(root.at("normalizer"));
  pipeline.pre_tokenizer = read_pre_tokenizer(root, config);
  if (root.has("decoder")) pipeline.decoder = make_decoder(root.at("decoder"));
  pipeline.added_tokens =
      AddedTokens(read_added_tokens(root, config, *pipeline.vocabulary), pipeline.normalizer, root.path());
  name_special_tokens(pipeline, config);
  pipeline.post_processor = read_post_processor(root, config, pipeline.special);
  const auto check = [&](const std::vector<int64_t>& ids) {
    for (const int64_t id : ids) {
      if (!pipeline.token_of(id)) root.at("post_processor").reject("id {} is not a token", id);
    }
  };
  check(pipeline.post_processor.before);
  check(pipeline.post_processor.after);
  for (const PairPiece& piece : pipeline.post_processor.pair) check(piece.ids);
}

/// Everything a tokenizer.json describes, as changed by the configuration beside it. Its truncation and padding are
/// ignored: they were settings of one training run, and batches here are cut by their own rule and never padded.
/// @throws TokenizerError naming the place, for what is malformed or not supported.
inline Pipeline read_pipeline(const JsonNode& root, const TokenizerConfig& config = {}) {
  Pipeline pipeline;
  read_model(root.at("model"), pipeline);
  read_stages(root, config, pipeline);
  return pipeline;
}

}  // namespace reft::detail
