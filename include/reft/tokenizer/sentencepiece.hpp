#pragma once

#ifdef REFT_HAS_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/sentencepiece_files.hpp"
#include "reft/tokenizer/tokenizer_interface.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

#ifdef REFT_HAS_SENTENCEPIECE

/// SentencePiece's own library on one model. Pieces write a space as ▁ (U+2581).
class SentencePieceModel {
 public:
  static constexpr std::string_view kMark = "\u2581";

  /// @param adds_prefix  false: texts get no space in front, whatever the model says.
  /// @throws TokenizerError, speaking of `place`, for bytes that are no model.
  SentencePieceModel(std::string bytes, bool adds_prefix, std::string_view unknown, std::string_view place) : unknown_(unknown) {
    // Messages that follow one another are merged: this is ModelProto.normalizer_spec.add_dummy_prefix = false.
    if (!adds_prefix) bytes.append("\x1A\x02\x18\x00", 4);
    const auto status = processor_.LoadFromSerializedProto(bytes);
    if (!status.ok()) fail<TokenizerError>("load_tokenizer", "{}: expected a SentencePiece model or ranks: {}", place, status.message());
    for (int id = 0; id < processor_.GetPieceSize(); ++id) vocabulary_.add(processor_.IdToPiece(id), id, place);
    cuts_ = separates_words();
    num_unknown_ = pieces_of(unknown_).size();
  }

  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Appends the ids of `text`, well-formed UTF-8.
  /// @param continues  as if it stood behind a word: the model's own prefix is left out, and a space in front counts.
  void encode(std::string_view text, bool continues, std::vector<int64_t>& ids) const {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = cuts_ ? next_cut(text, begin) : text.size();
      const std::string_view part = text.substr(begin, end - begin);
      if (continues || begin > 0) append(pieces_of(unknown_ + std::string(part)), num_unknown_, ids);
      else append(pieces_of(part), 0, ids);
      begin = end;
    }
  }

  /// Pieces need not be the model's.
  std::string decode(const std::vector<std::string>& pieces) const {
    std::string text;
    const auto status = processor_.Decode(pieces, &text);
    if (!status.ok()) fail<TokenizerError>("decode", "SentencePiece: {}", status.message());
    return text;
  }

 private:
  static constexpr std::size_t kPartBytes = 4096;

  std::vector<int> pieces_of(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) fail<TokenizerError>("encode", "SentencePiece: {}", status.message());
    return ids;
  }

  static void append(const std::vector<int>& pieces, std::size_t skipped, std::vector<int64_t>& ids) {
    ids.insert(ids.end(), pieces.begin() + static_cast<std::ptrdiff_t>(pieces.size() >= skipped ? skipped : 0), pieces.end());
  }

  /// Note [Long texts]
  /// The library merges a text as a whole, and its queue outgrows the caches: 2 MiB in one text cost four times as much as in
  /// parts. Where no piece of a BPE model has a ▁ behind another character, no merge reaches across the end of a word, and
  /// the parts' ids are the whole's. (The scores of BPE are the negative ranks of the merges. A unigram model's are logarithms;
  /// it sums them over the whole text, and rounding may then decide between ways of equal worth.)
  bool separates_words() const {
    bool separates = vocabulary_.find(kMark) >= 0 && !unknown_.empty();
    vocabulary_.for_each([&](std::string_view piece, int32_t id) {
      const float score = processor_.GetScore(id);
      separates = separates && score == std::floor(score) && piece.find(' ') == std::string_view::npos;
      for (auto at = piece.find(kMark); at != std::string_view::npos; at = piece.find(kMark, at + kMark.size())) {
        separates = separates && (at == 0 || piece.substr(0, at).ends_with(kMark));
      }
    });
    return separates;
  }

  /// The first space behind a visible ASCII character, kPartBytes after `begin` or later.
  static std::size_t next_cut(std::string_view text, std::size_t begin) {
    for (std::size_t at = begin + kPartBytes; at < text.size(); ++at) {
      if (text[at] == ' ' && text[at - 1] > ' ' && text[at - 1] < '\x7F') return at;
    }
    return text.size();
  }

  sentencepiece::SentencePieceProcessor processor_;
  Vocabulary vocabulary_;
  std::string unknown_;
  std::size_t num_unknown_ = 0;  // pieces of the unknown token's own text
  bool cuts_ = false;
};

/// A tokenizer.model as transformers' LlamaTokenizer and GemmaTokenizer use it.
/// Ref: transformers 4.57, tokenization_llama.py, tokenization_gemma.py, tokenization_utils.py.
class SentencePieceTokenizer : public TokenizerInterface {
 public:
  SentencePieceTokenizer(std::string bytes, SentencePieceSettings settings, const JsonNode& place)
      : model_(std::move(bytes), settings.legacy, settings.config.unk_token.value_or("<unk>"), place.path()),
        settings_(std::move(settings)), special_(settings_.special.begin(), settings_.special.end()) {
    const auto tokens = sentencepiece_added_tokens(settings_, model_.vocabulary(), place);
    added_ = AddedTokens(tokens, nullptr, place.path());
    for (const AddedToken& token : tokens) {
      const auto& additional = settings_.additional;
      const bool is_additional = std::find(additional.begin(), additional.end(), token.content) != additional.end();
      const bool is_new = is_additional && token.id >= model_.vocabulary().end_id();
      if (!settings_.joins_special || !special_.contains(token.content) || is_new) alone_.insert(token.id);
    }
    const auto& config = settings_.config;
    ids_ = {.bos = id_of_role(config.bos_token), .eos = id_of_role(config.eos_token), .pad = id_of_role(config.pad_token),
            .unk = id_of_role(config.unk_token)};
    const auto ends = config.ends.value_or(TokenizerConfig::Ends{});
    if (ends.bos && !ids_.bos) place.reject("the tokenizer class adds the bos token to every text, but there is no bos_token");
    if (ends.eos && !ids_.eos) place.reject("the tokenizer class adds the eos token to every text, but there is no eos_token");
    if (ends.bos) before_ = ids_.bos;
    if (ends.eos) after_ = ids_.eos;
  }

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<int64_t> ids;
    append(text, add_special_tokens, ids);
    return ids;
  }

  EncodedPair encode_pair(std::string_view first, std::string_view second, bool add_special_tokens) const override {
    EncodedPair result;
    append(first, add_special_tokens, result.ids);
    result.type_ids.resize(result.ids.size(), 0);
    append(second, add_special_tokens, result.ids);
    result.type_ids.resize(result.ids.size(), 1);
    return result;
  }

  /// Added tokens without a role stand alone, with spaces around them for Llama's class, as there.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override {
    std::vector<std::string> texts, run;
    for (const int64_t id : ids) {
      const std::string* token = find_token(id);
      if (!token || (skip_special_tokens && special_.contains(*token))) continue;
      if (!alone_.contains(id)) {
        run.push_back(*token);
        continue;
      }
      if (std::string text = run.empty() ? "" : joined(std::exchange(run, {})); !text.empty()) texts.push_back(std::move(text));
      texts.push_back(*token);
    }
    if (!run.empty()) texts.push_back(joined(std::move(run)));
    return fmt::format("{}", fmt::join(texts, settings_.joins_special ? " " : ""));
  }

  std::optional<int64_t> id_of(std::string_view token) const override {
    const int32_t added = added_.names().find(token), id = added >= 0 ? added : model_.vocabulary().find(token);
    return id < 0 ? std::nullopt : std::optional<int64_t>(id);
  }

  std::optional<std::string> token_of(int64_t id) const override {
    const std::string* token = find_token(id);
    return token ? std::optional(*token) : std::nullopt;
  }

  int64_t vocabulary_size() const override { return std::max(model_.vocabulary().end_id(), added_.names().end_id()); }
  SpecialTokenIds special_tokens() const override { return ids_; }

 private:
  static constexpr std::string_view kMark = SentencePieceModel::kMark;

  std::optional<int64_t> id_of_role(const std::optional<std::string>& token) const {
    return token ? id_of(*token) : std::nullopt;
  }

  const std::string* find_token(int64_t id) const {
    const std::string* added = added_.names().token(id);
    return added ? added : model_.vocabulary().token(id);
  }

  void append(std::string_view text, bool add_special_tokens, std::vector<int64_t>& ids) const {
    if (add_special_tokens && before_) ids.push_back(*before_);
    append_text(to_valid_utf8(text), ids);
    if (add_special_tokens && after_) ids.push_back(*after_);
  }

  void append_text(std::string text, std::vector<int64_t>& ids) const {
    if (!settings_.legacy && !text.empty()) text = with_mark(text);
    const std::size_t begin = ids.size();
    bool is_first = true;  // whether only one stretch of text has been seen
    for (const auto& segment : added_.split_raw(text)) {
      if (!segment.id) {
        const std::string_view stretch = std::string_view(text).substr(segment.begin, segment.end - segment.begin);
        const bool continues = !settings_.legacy && (stretch.starts_with(kMark) || stretch.starts_with(' '));
        model_.encode(stretch, continues, ids);
        continue;
      }
      // The ▁ of a text that begins with a special token goes.
      const bool only_mark = is_first && !settings_.legacy && ids.size() == begin + 1 && *find_token(ids.back()) == kMark;
      if (only_mark && special_.contains(*find_token(*segment.id))) ids.pop_back();
      ids.push_back(*segment.id);
      is_first = false;
    }
  }

  /// ▁ is a space wherever it stands; one more comes first.
  std::string with_mark(std::string_view text) const {
    std::string result(settings_.add_prefix_space ? kMark : "");
    for (std::size_t at = 0; at < text.size();) {
      const bool is_mark = text.substr(at).starts_with(kMark);
      result += is_mark ? ' ' : text[at];
      at += is_mark ? kMark.size() : 1;
    }
    return result;
  }

  /// The text of tokens that belong together: of the pieces by the library, special ones as they are.
  std::string joined(std::vector<std::string> tokens) const {
    if (!settings_.joins_special) return model_.decode(tokens);
    if (settings_.add_prefix_space && tokens[0].starts_with(kMark)) tokens[0].erase(0, kMark.size());
    std::string text;
    std::vector<std::string> run;
    bool after_special = false;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (special_.contains(tokens[i])) {
        if (!after_special && i > 0 && settings_.legacy) text += ' ';
        text += model_.decode(std::exchange(run, {})) + tokens[i];
        after_special = true;
      } else {
        if (after_special && i == 1 && settings_.add_prefix_space && !tokens[i].starts_with(kMark)) text += ' ';
        run.push_back(std::move(tokens[i]));
        after_special = false;
      }
    }
    return text + model_.decode(run);
  }

  SentencePieceModel model_;
  SentencePieceSettings settings_;
  std::unordered_set<std::string> special_;
  AddedTokens added_;
  std::unordered_set<int64_t> alone_;  // added tokens that are no part of the text around them
  SpecialTokenIds ids_;
  std::optional<int64_t> before_, after_;
};

inline std::shared_ptr<const TokenizerInterface> read_sentencepiece(std::string bytes, SentencePieceSettings settings, const JsonNode& place) {
  return std::make_shared<SentencePieceTokenizer>(std::move(bytes), std::move(settings), place);
}

#else

inline std::shared_ptr<const TokenizerInterface> read_sentencepiece(const std::string&, const SentencePieceSettings&, const JsonNode& place) {
  place.reject("this is a SentencePiece model, and reft was built without its library: install libsentencepiece-dev (cmake/bootstrap.sh "
               "does) and configure again, or let transformers make a tokenizer.json of it by "
               "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)");
}

#endif

}  // namespace reft::detail
