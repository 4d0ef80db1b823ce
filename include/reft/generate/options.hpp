#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reft/generate/token_sampler.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

class PrefixCache;

/// When beam search gives up looking for something better than its `num_beams` finished sequences.
/// yes: as soon as there are so many;  no: when the best running one, at its present length, would not be better;
/// never: when it could not be at any length, which is exact for length penalties of 0 or below.
enum class EarlyStopping { yes, no, never };

/// Beam search with transformers' rules. A finished sequence of n new tokens scores   Σ log p / n^length_penalty.
struct BeamOptions {
  int64_t num_beams = 1;        ///< 1: none
  double length_penalty = 1.0;  ///< above 0 favours long sequences
  EarlyStopping early_stopping = EarlyStopping::no;
};

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  std::vector<int64_t> end_tokens = {};  ///< a continuation ends before one of these; empty = the model's own
  bool use_end_tokens = true;            ///< false: always `max_new_tokens` of them
  torch::Tensor row_scales = {};         ///< (r) or (B, r): what the rows of the subspaces are multiplied with; undefined = 1
  /// Told of every new token as it is chosen. Sequence i is sample i % num_samples of prompt i / num_samples.
  std::function<void(int64_t sequence, int64_t token)> on_token = {};
  int64_t num_samples = 1;          ///< continuations of each prompt; with beams: its best finished sequences
  BeamOptions beams = {};
  bool log_probabilities = false;   ///< whether to say how likely each token was
  std::optional<Tokenizer> tokenizer = {};     ///< makes text of the tokens; the next two need it
  std::vector<std::string> stop_strings = {};  ///< a continuation's text ends before the first of these
  /// Told of new text as soon as it is certain; all of a sequence's is its `text`.
  std::function<void(int64_t sequence, std::string_view text)> on_text = {};
  PrefixCache* prefix = nullptr;    ///< tokens that prompts may begin with, computed once
};

/// @throws ConfigError for what is out of range, or does not go together.
inline void validate(const GenerateOptions& options) {
  validate(options.sampling);
  const auto require = [](bool good, const char* expected, auto got) {
    if (!good) fail<ConfigError>("generate", "expected {}, got {}", expected, got);
  };
  require(options.max_new_tokens >= 0, "max_new_tokens >= 0", options.max_new_tokens);
  require(options.num_samples >= 1, "num_samples >= 1", options.num_samples);
  require(options.beams.num_beams >= 1, "num_beams >= 1", options.beams.num_beams);
  if (!options.tokenizer && (!options.stop_strings.empty() || options.on_text)) {
    fail<ConfigError>("generate", "stop strings and on_text need a tokenizer; set one in the options");
  }
  if (options.beams.num_beams == 1) {
    if (options.num_samples > 1 && options.sampling.temperature == 0.0) {
      fail<ConfigError>("generate", "several greedy samples would be the same; expected a temperature above 0, or beams");
    }
    return;
  }
  require(options.num_samples <= options.beams.num_beams, "as many samples as beams at most", options.num_samples);
  require(options.sampling.temperature == 0.0, "a temperature of 0 with beams, which are not drawn", options.sampling.temperature);
  if (options.on_token || options.on_text) fail<ConfigError>("generate", "beams cannot be told of as they come: any may be given up yet");
}

enum class FinishReason { stop, length };

inline std::string_view to_string(FinishReason reason) { return reason == FinishReason::stop ? "stop" : "length"; }

/// One continuation of a prompt.
struct Continuation {
  std::vector<int64_t> tokens;  ///< new ones, without the end token, and within the text where a stop string cut it
  FinishReason finish_reason = FinishReason::length;
  std::string text = {};        ///< where there is a tokenizer
  /// Of each token where asked for: log-softmax of the model's logits, before any rule of sampling. As `score` says.
  std::vector<double> log_probabilities = {};
  double beam_score = 0.0;      ///< Σ log p / n^length_penalty, n with the end token
};

}  // namespace reft
