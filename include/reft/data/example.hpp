#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace reft {

/// A label that supervises nothing, as in transformers.
inline constexpr int64_t kIgnoredLabel = -100;

/// An instruction with an optional input, and the answer to learn; a prompt template turns it into text.
struct TextExample {
  std::string instruction, input, output;

  bool operator==(const TextExample&) const = default;
};

/// A prompt in its final wording and its continuation; no template is laid over it.
struct PromptExample {
  std::string prompt, completion;

  bool operator==(const PromptExample&) const = default;
};

/// Text that is learned from its second token on; positions are laid over all of it.
struct PlainText {
  std::string text;

  bool operator==(const PlainText&) const = default;
};

/// A conversation: a list of objects with "role" and "content", for a chat template. What the assistant says is learned.
struct ChatExample {
  nlohmann::ordered_json messages;

  bool operator==(const ChatExample&) const = default;
};

/// A tokenized sequence. labels[i] supervises predicting token i (from position i - 1); kIgnoredLabel = no loss.
struct Example {
  std::vector<int64_t> input_ids;
  std::vector<int64_t> labels;  ///< as many as input_ids
  int64_t prompt_length = 0;    ///< tokens over which positions are laid, 0 to the length
  std::vector<float> row_scales = {};  ///< (r) what the rows of each subspace are multiplied with here; empty = 1
  std::vector<int64_t> token_types = {};         ///< segment of each token, for encoders; empty = all 0
  std::optional<double> sequence_label = {};     ///< the class, from 0, or the number that the whole sequence stands for

  bool operator==(const Example&) const = default;
};

/// One row of a data file.
using RawExample = std::variant<TextExample, PromptExample, PlainText, ChatExample, Example>;

/// Two answers to the same prompt, of which the first is to be preferred.
struct PreferenceExample {
  RawExample chosen, rejected;

  bool operator==(const PreferenceExample&) const = default;
};

/// A text, or two of them, and the class it belongs to or the number it stands for.
struct LabelledExample {
  std::string text, second_text;
  std::string label;  ///< as it stands in the file

  bool operator==(const LabelledExample&) const = default;
};

}  // namespace reft
