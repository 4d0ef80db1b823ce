#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "reft/generate/request.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// How likely given continuations are:   log p(token | prompt and the tokens before it), the model's log-softmax.
/// All in one pass, with the edits that `generate` would make: in the prompt, and at decode where the phase says so.
/// @param continuations  one per request, none empty.   @return for each, one number a token.
/// @throws DataError for an empty prompt or continuation, or a token the model does not have.
inline std::vector<std::vector<double>> score(const CausalLM& base, std::span<const GenerationRequest> requests,
                                              const std::vector<std::vector<int64_t>>& continuations) {
  if (requests.size() != continuations.size()) {
    fail<DataError>("score", "expected one continuation per prompt, got {} for {}", continuations.size(), requests.size());
  }
  if (requests.empty()) return {};
  std::vector<int64_t> input_ids, lengths, rows, targets;
  std::vector<detail::RequestRow> sequences;
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::vector<int64_t>&prompt = requests[i].prompt, &continuation = continuations[i];
    detail::check_tokens("score", "prompt", i, prompt, base->config().vocab_size);
    detail::check_tokens("score", "continuation", i, continuation, base->config().vocab_size);
    for (size_t t = 0; t < continuation.size(); ++t) rows.push_back(std::ssize(input_ids) + std::ssize(prompt) - 1 + static_cast<int64_t>(t));
    input_ids.insert(input_ids.end(), prompt.begin(), prompt.end());
    input_ids.insert(input_ids.end(), continuation.begin(), continuation.end() - 1);  // the last one is never read
    targets.insert(targets.end(), continuation.begin(), continuation.end());
    lengths.push_back(std::ssize(prompt) + std::ssize(continuation) - 1);
    sequences.push_back({&requests[i], std::ssize(prompt)});
  }
  torch::NoGradGuard no_grad;
  const detail::EvaluationMode evaluation(requests);
  const auto to_device = [&](const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64).to(base->device()); };
  ForwardContext context(Layout::ragged(lengths, base->device()));
  add_edits(context, detail::plan_edits(context.layout(), sequences, input_ids));
  const torch::Tensor logits = base->forward(to_device(input_ids), context, to_device(rows)).to(torch::kFloat32);
  const torch::Tensor found = logits.log_softmax(1).gather(1, to_device(targets).unsqueeze(1)).squeeze(1).to(torch::kCPU, torch::kFloat64);
  const double* next = found.const_data_ptr<double>();
  std::vector<std::vector<double>> scores;
  for (const auto& continuation : continuations) {
    scores.emplace_back(next, next + continuation.size());
    next += continuation.size();
  }
  return scores;
}

/// The same for one continuation of one prompt.   @return one number a token.
inline std::vector<double> score(const ReftModel<CausalLM>& model, const std::vector<int64_t>& prompt, const std::vector<int64_t>& continuation) {
  const GenerationRequest request{prompt, model.adapter()};
  return score(model.base(), std::span(&request, 1), {continuation}).front();
}

}  // namespace reft
