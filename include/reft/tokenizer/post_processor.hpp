#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/json_node.hpp"

namespace reft::detail {

/// A part of the template of two texts: special tokens, or one of the texts.
struct PairPiece {
  int text = -1;  // 0 or 1; -1 for special tokens
  std::vector<int64_t> ids;
  int64_t type_id = 0;
};

/// The special tokens around one encoded text, and around two; `pair` is empty where two are not foreseen.
struct PostProcessor {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
  std::vector<PairPiece> pair = {{.text = 0}, {.text = 1, .type_id = 1}};
};

PostProcessor make_post_processor(const JsonNode& node, int depth = 0);

inline PostProcessor make_post_processor_sequence(const JsonNode& node, int depth) {
  const auto adds_tokens = [](const PostProcessor& step) {
    return !step.before.empty() || !step.after.empty() || step.pair.size() != 2;
  };
  PostProcessor whole;
  for (const JsonNode& step : node.at("processors").elements()) {
    PostProcessor outer = make_post_processor(step, depth + 1);
    if (!adds_tokens(outer)) continue;
    if (adds_tokens(whole)) whole.pair.clear();
    else whole.pair = std::move(outer.pair);
    whole.before.insert(whole.before.begin(), outer.before.begin(), outer.before.end());
    whole.after.insert(whole.after.end(), outer.after.begin(), outer.after.end());
  }
  return whole;
}

/// The ids of a special token of a template, which has its own list of them.
inline std::vector<int64_t> read_template_ids(const JsonNode& node, const std::string& name) {
  std::vector<int64_t> ids;
  for (const JsonNode& id : node.at("special_tokens").at(name).at("ids").elements()) ids.push_back(id.number());
  return ids;
}

/// The `pair` template: special tokens by name, and the texts as sequences A and B, each once.
inline std::vector<PairPiece> read_pair_template(const JsonNode& node) {
  std::vector<PairPiece> pair;
  int seen[2] = {0, 0};
  for (const JsonNode& element : node.at("pair").elements()) {
    const bool is_text = element.has("Sequence");
    const JsonNode part = element.at(is_text ? "Sequence" : "SpecialToken");
    const std::string id = part.string("id");
    PairPiece piece{.type_id = part.has("type_id") ? part.at("type_id").number() : 0};
    if (!is_text) {
      piece.ids = read_template_ids(node, id);
    } else {
      if (id != "A" && id != "B") part.at("id").reject("expected A or B, got \"{}\"", id);
      piece.text = id == "B";
      ++seen[piece.text];
    }
    pair.push_back(std::move(piece));
  }
  if (seen[0] != 1 || seen[1] != 1) node.at("pair").reject("expected the sequences A and B, once each");
  return pair;
}

/// The `single` template: special tokens by name, and the text itself as sequence A, once.
inline PostProcessor make_template(const JsonNode& node, int) {
  PostProcessor result;
  bool text_seen = false;
  for (const JsonNode& piece : node.at("single").elements()) {
    if (piece.has("Sequence")) {
      if (piece.at("Sequence").string("id") != "A" || text_seen) piece.reject("expected sequence A, once");
      text_seen = true;
    } else {
      const auto ids = read_template_ids(node, piece.at("SpecialToken").string("id"));
      auto& side = text_seen ? result.after : result.before;
      side.insert(side.end(), ids.begin(), ids.end());
    }
  }
  if (!text_seen) node.at("single").reject("sequence A is missing");
  if (node.has("pair")) result.pair = read_pair_template(node);
  return result;
}

inline int64_t read_processor_id(const JsonNode& node, std::string_view key) {
  const auto pair = node.at(key).elements();
  if (pair.size() != 2) node.at(key).reject("expected [token, id]");
  return pair[1].number();
}

/// [CLS] A [SEP] and [CLS] A [SEP] B [SEP], each given as [token, id].
inline PostProcessor make_bert_processor(const JsonNode& node, int) {
  const std::vector<int64_t> cls{read_processor_id(node, "cls")}, sep{read_processor_id(node, "sep")};
  return {cls, sep, {{.ids = cls}, {.text = 0}, {.ids = sep}, {.text = 1, .type_id = 1}, {.ids = sep, .type_id = 1}}};
}

/// <s> A </s> and <s> A </s></s> B </s>, all of type 0.
inline PostProcessor make_roberta_processor(const JsonNode& node, int) {
  const std::vector<int64_t> cls{read_processor_id(node, "cls")}, sep{read_processor_id(node, "sep")};
  return {cls, sep, {{.ids = cls}, {.text = 0}, {.ids = sep}, {.ids = sep}, {.text = 1}, {.ids = sep}}};
}

inline constexpr Construct<PostProcessor> kPostProcessors[] = {
    {"Sequence", &make_post_processor_sequence},
    {"TemplateProcessing", &make_template},
    {"BertProcessing", &make_bert_processor},
    {"RobertaProcessing", &make_roberta_processor},
    {"ByteLevel", [](const JsonNode&, int) { return PostProcessor{}; }},  // moves offsets, adds nothing
};

/// The post-processor a tokenizer file describes. @throws TokenizerError for a kind that is not supported.
inline PostProcessor make_post_processor(const JsonNode& node, int depth) {
  return build_construct(node, kPostProcessors, depth);
}

}  // namespace reft::detail
