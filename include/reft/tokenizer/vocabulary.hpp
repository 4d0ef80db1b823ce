#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "reft/error.hpp"
#include "reft/tokenizer/json_node.hpp"

namespace reft::detail {

/// Hashes std::string and std::string_view alike, so that a look-up needs no copy.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

template <class Value>
using TextMap = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

/// The tokens of a model and their ids, both ways. Ids need not be contiguous.
class Vocabulary {
 public:
  /// @throws TokenizerError, speaking of `place`, if the token or the id is taken, or the id cannot be one.
  void add(std::string token, int64_t id, std::string_view place) {
    if (id < 0 || id > kLargestTokenId) {
      fail<TokenizerError>("load_tokenizer", "{}: token \"{}\": expected an id from 0 to {}, got {}", place, token,
                           kLargestTokenId, id);
    }
    const auto [entry, is_new] = ids_.emplace(std::move(token), static_cast<int32_t>(id));
    if (!is_new) {
      fail<TokenizerError>("load_tokenizer", "{}: token \"{}\" is there twice, as {} and {}", place, entry->first,
                           entry->second, id);
    }
    const auto [other, id_is_new] = tokens_.emplace(entry->second, &entry->first);
    if (!id_is_new) {
      fail<TokenizerError>("load_tokenizer", "{}: id {} is there twice, as \"{}\" and \"{}\"", place, id,
                           *other->second, entry->first);
    }
    if (id >= end_id_) end_id_ = id + 1;
  }

  /// The id, or -1.
  int32_t find(std::string_view token) const {
    const auto entry = ids_.find(token);
    return entry == ids_.end() ? -1 : entry->second;
  }

  /// The token, or nullptr.
  const std::string* token(int64_t id) const {
    if (id < 0 || id >= end_id_) return nullptr;
    const auto entry = tokens_.find(static_cast<int32_t>(id));
    return entry == tokens_.end() ? nullptr : entry->second;
  }

  /// Calls `visit(token, id)` for all of them, in no order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [token, id] : ids_) visit(std::string_view(token), id);
  }

  /// One more than the largest id.
  int64_t end_id() const { return end_id_; }

  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  // tokens_ points into ids_: a copy would point into its source.
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

 private:
  TextMap<int32_t> ids_;
  std::unordered_map<int32_t, const std::string*> tokens_;
  int64_t end_id_ = 0;
};

}  // namespace reft::detail
