#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/json_node.hpp"

namespace reft::detail {

/// The special tokens around one encoded text.
struct PostProcessor {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

PostProcessor make_post_processor(const JsonNode& node, int depth = 0);

inline PostProcessor make_post_processor_sequence(const JsonNode& node, int depth) {
  PostProcessor whole;
  for (const JsonNode& step : node.at("processors").elements()) {
    const PostProcessor outer = make_post_processor(step, depth + 1);
    whole.before.insert(whole.before.begin(), outer.before.begin(), outer.before.end());
    whole.after.insert(whole.after.end(), outer.after.begin(), outer.after.end());
  }
  return whole;
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
      const std::string name = piece.at("SpecialToken").string("id");
      for (const JsonNode& id : node.at("special_tokens").at(name).at("ids").elements()) {
        (text_seen ? result.after : result.before).push_back(id.number());
      }
    }
  }
  if (!text_seen) node.at("single").reject("sequence A is missing");
  return result;
}

/// [CLS] text [SEP], each given as [token, id].
inline PostProcessor make_bert_processor(const JsonNode& node, int) {
  const auto id = [&](std::string_view key) {
    const auto pair = node.at(key).elements();
    if (pair.size() != 2) node.at(key).reject("expected [token, id]");
    return pair[1].number();
  };
  return {{id("cls")}, {id("sep")}};
}

inline constexpr Construct<PostProcessor> kPostProcessors[] = {
    {"Sequence", &make_post_processor_sequence},
    {"TemplateProcessing", &make_template},
    {"BertProcessing", &make_bert_processor},
    {"RobertaProcessing", &make_bert_processor},
    {"ByteLevel", [](const JsonNode&, int) { return PostProcessor{}; }},  // moves offsets, adds nothing
};

/// The post-processor a tokenizer file describes. @throws TokenizerError for a kind that is not supported.
inline PostProcessor make_post_processor(const JsonNode& node, int depth) {
  return build_construct(node, kPostProcessors, depth);
}

}  // namespace reft::detail
