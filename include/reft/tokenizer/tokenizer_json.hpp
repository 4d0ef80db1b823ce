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

namespace reft::detail {

inline std::shared_ptr<const Vocabulary> read_vocabulary(const JsonNode& node) {
  if (!node.value().is_object()) node.reject("expected an object, got {}", node.value().type_name());
  const auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [token, id] : node.value().items()) vocabulary->add(token, JsonNode(id, node.path()).number());
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
  pipeline.model = [bpe = Bpe(pipeline.vocabulary, std::move(merges), options)](
                       std::string_view word, std::vector<int64_t>& ids) { bpe.encode(word, ids); };
  if (options.unknown_token) {
    const int32_t id = pipeline.vocabulary->find(*options.unknown_token);
    if (id >= 0) pipeline.special.unk = id;
  }
}

inline void read_model(const JsonNode& node, Pipeline& pipeline) {
  // Files before tokenizers 0.8 leave the type out where it is plain from the keys.
  const std::string type = node.string("type", node.has("merges") ? "BPE" : "");
  if (type != "BPE") node.reject("model \"{}\" is not supported (supported: BPE)", type);
  read_bpe(node, pipeline);
}

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

inline std::vector<AddedToken> read_added_tokens(const JsonNode& node) {
  std::vector<AddedToken> tokens;
  for (const JsonNode& element : node.elements()) {
    tokens.push_back(read_added_token(element, element.at("id").number()));
  }
  return tokens;
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

/// Everything a tokenizer.json describes. Its truncation and padding are left to the caller's batches.
/// `added_tokens` come from the file and from the configuration beside it.
/// @throws TokenizerError naming the place, for what is malformed or not supported.
inline Pipeline read_pipeline(const JsonNode& root, std::vector<AddedToken> added_tokens) {
  Pipeline pipeline;
  read_model(root.at("model"), pipeline);
  if (root.has("normalizer")) pipeline.normalizer = make_normalizer(root.at("normalizer"));
  if (root.has("pre_tokenizer")) pipeline.pre_tokenizer = make_pre_tokenizer(root.at("pre_tokenizer"));
  if (root.has("post_processor")) pipeline.post_processor = make_post_processor(root.at("post_processor"));
  if (root.has("decoder")) pipeline.decoder = make_decoder(root.at("decoder"));
  for (const AddedToken& token : added_tokens) check_added_token(token, *pipeline.vocabulary, root);
  pipeline.added_tokens = AddedTokens(std::move(added_tokens), pipeline.normalizer);
  for (const auto* ids : {&pipeline.post_processor.before, &pipeline.post_processor.after}) {
    for (const int64_t id : *ids) {
      if (!pipeline.token_of(id)) root.at("post_processor").reject("id {} is not a token", id);
    }
  }
  return pipeline;
}

}  // namespace reft::detail
