#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/chat_template.hpp"
#include "reft/tokenizer/chat_template_files.hpp"
#include "reft/tokenizer/tokenizer_folder.hpp"
#include "reft/tokenizer/tokenizer_interface.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft {

/// Text to token ids and back. A handle: copies share one immutable tokenizer, which many threads may use at once.
class Tokenizer {
 public:
  /// @param chat_template  null where there is none.   @throws TokenizerError for a null implementation.
  explicit Tokenizer(std::shared_ptr<const TokenizerInterface> implementation,
                     std::shared_ptr<const ChatTemplate> chat_template = nullptr)
      : implementation_(std::move(implementation)), chat_template_(std::move(chat_template)) {
    if (!implementation_) fail<TokenizerError>("Tokenizer", "expected an implementation, got a null pointer");
  }

  /// Any bytes; ill-formed UTF-8 counts as U+FFFD.
  /// @throws TokenizerError for text the vocabulary cannot express.
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = true) const {
    return implementation_->encode(text, add_special_tokens);
  }

  /// Two texts with the special tokens that the tokenizer puts around and between them, as for classifying pairs.
  EncodedPair encode_pair(std::string_view first, std::string_view second, bool add_special_tokens = true) const {
    return implementation_->encode_pair(first, second, add_special_tokens);
  }

  /// Ids that are no tokens are left out. Spaces stay as they are, also before punctuation: the
  /// `clean_up_tokenization_spaces` of some configurations would change the text.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const {
    return implementation_->decode(ids, skip_special_tokens);
  }

  std::optional<int64_t> id_of(std::string_view token) const { return implementation_->id_of(token); }
  std::optional<std::string> token_of(int64_t id) const { return implementation_->token_of(id); }
  /// One more than the largest id.
  int64_t vocabulary_size() const { return implementation_->vocabulary_size(); }

  std::optional<int64_t> bos_token_id() const { return implementation_->special_tokens().bos; }
  std::optional<int64_t> eos_token_id() const { return implementation_->special_tokens().eos; }
  std::optional<int64_t> pad_token_id() const { return implementation_->special_tokens().pad; }
  std::optional<int64_t> unk_token_id() const { return implementation_->special_tokens().unk; }

  bool has_chat_template() const { return chat_template_ != nullptr; }
  /// How the model was trained to read conversations. Encode its text without special tokens.
  /// @throws TokenizerError where the model's folder has none.
  const ChatTemplate& chat_template() const {
    if (!chat_template_) fail<TokenizerError>("Tokenizer", "this tokenizer comes without a chat template");
    return *chat_template_;
  }

 private:
  std::shared_ptr<const TokenizerInterface> implementation_;
  std::shared_ptr<const ChatTemplate> chat_template_;
};

/// Decodes ids as they come; what it hands out never ends within a UTF-8 character.
/// Cost: one id costs as much as decoding the few since the last whole character.
class TokenStream {
 public:
  explicit TokenStream(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// @return the text the new id completes; empty while a character is unfinished.
  std::string add(int64_t id) {
    ids_.push_back(id);
    const std::string text = tokenizer_.decode(ids_);
    // An unfinished character shows as U+FFFD at the end. If more ids do not finish it, it is none.
    const bool unfinished =
        text.ends_with(detail::kReplacementCharacter) && ids_.size() - num_printed_ < kMostUnfinishedIds;
    return unfinished ? std::string() : take(text);
  }

  /// What is left at the end, unfinished characters as U+FFFD. The stream is then as new.
  std::string flush() {
    std::string rest = take(tokenizer_.decode(ids_));
    *this = TokenStream(std::move(tokenizer_));
    return rest;
  }

 private:
  static constexpr std::size_t kMostUnfinishedIds = 16;  // 4 bytes, and some special tokens among them

  /// The part of `text` that is new. The ids it ends with stay, as what decoders do may depend on the token before.
  std::string take(const std::string& text) {
    const std::span<const int64_t> printed(ids_.data(), num_printed_);
    std::string fresh = text.substr(common_prefix(tokenizer_.decode(printed), text));
    if (!fresh.empty()) {
      ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(num_printed_));
      num_printed_ = ids_.size();
    }
    return fresh;
  }

  /// Bytes of the whole characters both texts begin with.
  static std::size_t common_prefix(std::string_view a, std::string_view b) {
    auto same = static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
    while (same < b.size() && same > 0 && (static_cast<unsigned char>(b[same]) & 0xC0) == 0x80) --same;
    return same;
  }

  Tokenizer tokenizer_;
  std::vector<int64_t> ids_;     // those of the last text handed out, then those not handed out yet
  std::size_t num_printed_ = 0;  // how many are the former
};

/// Reads the tokenizer of a model's folder: tokenizer.json, or where there is none vocab.json with merges.txt (GPT-2,
/// Qwen2, RoBERTa), vocab.txt (BERT), tokenizer.model (SentencePiece, where its library is installed: Llama 2, Mistral,
/// Gemma), or tiktoken's ranks (Llama 3, Qwen); and what is beside it of tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json, config.json, chat_template.jinja.
/// @throws TokenizerError naming file and place, for what is missing, malformed or not supported.
inline Tokenizer load_tokenizer(const std::filesystem::path& folder) {
  detail::TokenizerFolder files(folder);
  auto implementation = files.read();
  return Tokenizer(std::move(implementation), detail::find_chat_template(folder, files.config(), files.map()));
}

}  // namespace reft
