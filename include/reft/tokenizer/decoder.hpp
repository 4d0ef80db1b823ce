#pragma once

#include <charconv>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/byte_level.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/normalizer.hpp"
#include "reft/tokenizer/pre_tokenizer.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// Turns tokens into strings whose concatenation is the text.
using Decoder = std::function<std::vector<std::string>(std::vector<std::string>)>;

Decoder make_decoder(const JsonNode& node, int depth = 0);

inline Decoder make_decoder_sequence(const JsonNode& node, int depth) {
  std::vector<Decoder> steps;
  for (const JsonNode& step : node.at("decoders").elements()) steps.push_back(make_decoder(step, depth + 1));
  return [steps = std::move(steps)](std::vector<std::string> tokens) {
    for (const Decoder& step : steps) tokens = step(std::move(tokens));
    return tokens;
  };
}

/// A decoder that rewrites each token on its own: `rewrite(token, index) -> token`.
template <class Rewrite>
Decoder make_token_decoder(Rewrite rewrite) {
  return [rewrite = std::move(rewrite)](std::vector<std::string> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = rewrite(std::move(tokens[i]), i);
    return tokens;
  };
}

inline std::string concatenated(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

/// The byte a token like <0x0A> stands for.
inline std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc{} || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

/// Joins each run of byte tokens: its text if the bytes are UTF-8, else one U+FFFD per byte.
inline std::vector<std::string> decode_byte_tokens(std::vector<std::string> tokens) {
  std::vector<std::string> decoded;
  std::string run;
  const auto end_run = [&] {
    if (run.empty()) return;
    if (is_valid_utf8(run)) decoded.push_back(run);
    else decoded.insert(decoded.end(), run.size(), std::string(kReplacementCharacter));
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = byte_of_token(token)) {
      run += *byte;
    } else {
      end_run();
      decoded.push_back(std::move(token));
    }
  }
  end_run();
  return decoded;
}

inline std::vector<std::string> decode_byte_level(const std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += from_byte_level(token).value_or(token);
  return {to_valid_utf8(bytes)};
}

/// Takes up to `start` copies of `content` from the front of each token and up to `stop` from its end.
inline Decoder make_strip_decoder(const JsonNode& node, int) {
  const std::string content = node.string("content");
  if (content.empty() || utf8_length(content[0]) != content.size()) {
    node.at("content").reject("expected one character, got \"{}\"", content);
  }
  const int64_t start = node.at("start").number(), stop = node.at("stop").number();
  return make_token_decoder([=](std::string token, std::size_t) {
    std::string_view rest = token;
    for (int64_t i = 0; i < start && rest.starts_with(content); ++i) rest.remove_prefix(content.size());
    for (int64_t i = 0; i < stop && rest.ends_with(content); ++i) rest.remove_suffix(content.size());
    return std::string(rest);
  });
}

inline Decoder make_metaspace_decoder(const JsonNode& node, int) {
  const Regex mark(quoted_pattern(read_space_mark(node)));
  const bool strips_first = read_prepend_scheme(node) != PrependScheme::never;
  return make_token_decoder([=](std::string token, std::size_t index) {
    return replace_all(token, mark, index == 0 && strips_first ? "" : " ");
  });
}

/// Takes back the spaces that joining words put before punctuation and English contractions.
inline std::string without_word_joints(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kJoints[] = {
      {" .", "."},     {" ?", "?"},     {" !", "!"},     {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
      {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [joint, replacement] : kJoints) {
    for (std::size_t at = 0; (at = text.find(joint, at)) != std::string::npos; at += replacement.size()) {
      text.replace(at, joint.size(), replacement);
    }
  }
  return text;
}

inline Decoder make_wordpiece_decoder(const JsonNode& node, int) {
  const std::string prefix = node.string("prefix", "##");
  const bool cleanup = node.boolean("cleanup", true);
  return make_token_decoder([=](std::string token, std::size_t index) {
    if (index > 0) token = token.starts_with(prefix) ? token.substr(prefix.size()) : " " + token;
    return cleanup ? without_word_joints(std::move(token)) : token;
  });
}

/// Word ends, marked by a suffix, become spaces; the last one goes.
inline Decoder make_suffix_decoder(const JsonNode& node, int) {
  const Regex suffix(quoted_pattern(node.string("suffix", "</w>")));
  return [=](std::vector<std::string> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
    }
    return tokens;
  };
}

inline constexpr Construct<Decoder> kDecoders[] = {
    {"Sequence", &make_decoder_sequence},
    {"ByteLevel", [](const JsonNode&, int) -> Decoder { return &decode_byte_level; }},
    {"ByteFallback", [](const JsonNode&, int) -> Decoder { return &decode_byte_tokens; }},
    {"Fuse",
     [](const JsonNode&, int) -> Decoder {
       return [](std::vector<std::string> tokens) { return std::vector<std::string>{concatenated(tokens)}; };
     }},
    {"Strip", &make_strip_decoder},
    {"Metaspace", &make_metaspace_decoder},
    {"WordPiece", &make_wordpiece_decoder},
    {"BPEDecoder", &make_suffix_decoder},
    {"Replace",
     [](const JsonNode& node, int) -> Decoder {
       return make_token_decoder(
           [pattern = read_pattern(node.at("pattern")), content = node.string("content")](
               std::string token, std::size_t) { return replace_all(token, pattern, content); });
     }},
};

/// The decoder a tokenizer file describes. @throws TokenizerError for a kind that is not supported.
inline Decoder make_decoder(const JsonNode& node, int depth) { return build_construct(node, kDecoders, depth); }

}  // namespace reft::detail
