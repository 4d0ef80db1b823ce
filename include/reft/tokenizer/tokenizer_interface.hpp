#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// The tokens with a role of their own, where a tokenizer has them.
struct SpecialTokenIds {
  std::optional<int64_t> bos, eos, pad, unk;
};

/// Two texts as one row of ids, and to which of them each id belongs, in the way the model was trained to see it.
struct EncodedPair {
  std::vector<int64_t> ids;
  std::vector<int64_t> type_ids;
};

/// What a tokenizer does; derive from it to bring your own: `Tokenizer(std::make_shared<MyTokenizer>())`.
class TokenizerInterface {
 public:
  virtual ~TokenizerInterface() = default;
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const = 0;
  virtual EncodedPair encode_pair(std::string_view first, std::string_view second, bool add_special_tokens) const {
    fail<TokenizerError>("encode_pair", "this tokenizer does not say how two texts are joined");
  }
  virtual std::optional<int64_t> id_of(std::string_view token) const = 0;
  virtual std::optional<std::string> token_of(int64_t id) const = 0;
  virtual int64_t vocabulary_size() const = 0;
  virtual SpecialTokenIds special_tokens() const { return {}; }
};

}  // namespace reft
