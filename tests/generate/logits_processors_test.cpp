#include "reft/generate/logits_processors.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "reft/generate/token_sampler.hpp"
#include "support/catch.hpp"

// What transformers makes of the same scores is in golden/logits_processors.json, written by the script beside it.

namespace {

nlohmann::json golden_cases() {
  return nlohmann::json::parse(std::ifstream(std::string(REFT_SOURCE_DIR) + "/tests/golden/logits_processors.json"))["cases"];
}

reft::SamplingOptions options_of(const nlohmann::json& json) {
  reft::SamplingOptions options;
  options.temperature = json.value("temperature", options.temperature);
  options.top_k = json.value("top_k", options.top_k);
  options.top_p = json.value("top_p", options.top_p);
  options.min_p = json.value("min_p", options.min_p);
  options.repetition_penalty = json.value("repetition_penalty", options.repetition_penalty);
  options.no_repeat_ngram = json.value("no_repeat_ngram", options.no_repeat_ngram);
  options.seed = 7;
  return options;
}

}  // namespace

TEST_CASE("scores are processed as transformers does, ties too, and the same tokens are drawn from them") {
  const nlohmann::json cases = golden_cases();
  CHECK(cases.size() == 36);
  for (const nlohmann::json& row : cases) {
    INFO(row["options"].dump());
    reft::TokenSampler sampler(options_of(row["options"]));
    const auto tokens = row["tokens"].get<std::vector<int64_t>>();
    const torch::Tensor scores = torch::tensor(row["scores"].get<std::vector<float>>());
    const torch::Tensor processed = sampler.processed(scores, tokens);
    int64_t wrong = 0;
    for (int64_t i = 0; i < processed.size(0); ++i) {
      const float found = processed[i].item<float>();
      const bool forbidden = found == -std::numeric_limits<float>::infinity();
      if (row["processed"][i].is_null() != forbidden) ++wrong;
      else if (!forbidden && !(std::abs(found - row["processed"][i].get<float>()) <= 1e-6f * std::abs(found))) ++wrong;
    }
    CHECK(wrong == 0);
    for (const nlohmann::json& drawn : row["draws_with_seed_7"]) CHECK(sampler.next(scores, tokens) == drawn.get<int64_t>());
  }
}

TEST_CASE("each rule alone, by hand") {
  const auto kept = [](const torch::Tensor& scores) {
    std::string marks;
    for (int64_t i = 0; i < scores.size(0); ++i) marks += std::isfinite(scores[i].item<float>()) ? '1' : '0';
    return marks;
  };
  const torch::Tensor scores = torch::tensor({0.1f, 0.5f, 0.125f, 0.15f, 0.125f}).log();
  CHECK(kept(reft::keep_top_k(scores, 2)) == "01010");
  CHECK(kept(reft::keep_top_k(scores, 3)) == "01111");  // two are equally good
  CHECK(kept(reft::keep_top_p(scores, 0.6)) == "01010");
  CHECK(kept(reft::keep_top_p(scores, 0.1)) == "01000");
  CHECK(kept(reft::keep_min_p(scores, 0.28)) == "01010");
  CHECK(kept(reft::keep_min_p(scores, 1.0)) == "01000");
  torch::Tensor unigrams = scores.clone();
  reft::forbid_repeated_ngrams(unigrams, std::vector<int64_t>{1, 4, 1}, 1);
  CHECK(kept(unigrams) == "10110");
}
