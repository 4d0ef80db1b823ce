#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

/// The text of one continuation as its tokens come, cut before the first stop string.
/// What `add` hands out is certain: it never ends within a UTF-8 character, nor holds the beginning of a stop string.
class StoppingText {
 public:
  /// @throws ConfigError for an empty stop string.
  StoppingText(Tokenizer tokenizer, std::vector<std::string> stop_strings)
      : tokenizer_(tokenizer), stream_(std::move(tokenizer)), stop_strings_(std::move(stop_strings)) {
    for (const std::string& stop : stop_strings_) {
      if (stop.empty()) fail<ConfigError>("StoppingText", "expected stop strings that are not empty");
    }
  }

  /// @return the text that is certain now.
  std::string add(int64_t token) { return take(stream_.add(token), /*keep_back=*/true); }

  /// What was kept back, when no more tokens come.
  std::string finish() { return stopped_ ? std::string() : take(stream_.flush(), /*keep_back=*/false); }

  /// Whether a stop string came; nothing is taken any more.
  bool stopped() const { return stopped_; }

  /// Everything handed out.
  const std::string& text() const { return text_; }

  /// How many of the tokens have their whole text before the cut.
  int64_t tokens_within(std::span<const int64_t> tokens) const {
    for (size_t count = tokens.size(); count > 0; --count) {
      if (text_.starts_with(tokenizer_.decode(tokens.first(count)))) return static_cast<int64_t>(count);
    }
    return 0;
  }

 private:
  std::string take(const std::string& fresh, bool keep_back) {
    if (stopped_) return {};
    pending_ += fresh;
    size_t certain = pending_.size();
    for (const std::string& stop : stop_strings_) {
      if (const size_t found = pending_.find(stop); found != std::string::npos) {
        certain = stopped_ ? std::min(certain, found) : found;
        stopped_ = true;
      }
    }
    if (!stopped_ && keep_back) certain -= longest_beginning();
    std::string handed_out = pending_.substr(0, certain);
    pending_.erase(0, stopped_ ? pending_.size() : certain);
    text_ += handed_out;
    return handed_out;
  }

  // Bytes at the end that may become a stop string.
  size_t longest_beginning() const {
    size_t longest = 0;
    for (const std::string_view stop : stop_strings_) {
      for (size_t size = std::min(stop.size() - 1, pending_.size()); size > longest; --size) {
        if (pending_.ends_with(stop.substr(0, size))) longest = size;
      }
    }
    return longest;
  }

  Tokenizer tokenizer_;
  TokenStream stream_;
  std::vector<std::string> stop_strings_;
  std::string pending_, text_;
  bool stopped_ = false;
};

}  // namespace reft
