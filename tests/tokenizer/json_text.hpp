#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "reft/tokenizer/json_node.hpp"

namespace reft::test {

/// What `build(node)` makes of a JSON text.
template <class Build>
auto from_json(std::string_view text, Build&& build) {
  const nlohmann::json value = nlohmann::json::parse(text);
  return build(detail::JsonNode(value, "t.json"));
}

}  // namespace reft::test
