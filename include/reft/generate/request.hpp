#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "reft/intervention/attached_interventions.hpp"

namespace reft {

/// A prompt, and who answers it. Requests of one batch may have different adapters of one base, or none.
struct GenerationRequest {
  std::vector<int64_t> prompt;
  std::shared_ptr<AttachedInterventions> adapter = {};  ///< `ReftModel::adapter()`; none: the plain base
  double scale = 1.0;                                   ///< s in h' = h + s (Φ(h) − h)
  torch::Tensor row_scales = {};                        ///< (r) what the rows of the subspaces are multiplied with; undefined = 1
};

namespace detail {

/// @throws DataError for an empty prompt or a token the model does not have.
/// @param what  names them in the error, "prompt".
inline void check_tokens(const char* function, const char* what, size_t index, std::span<const int64_t> tokens, int64_t vocabulary_size) {
  if (tokens.empty()) fail<DataError>(function, "{} {}: expected at least one token, got none", what, index);
  for (const int64_t token : tokens) {
    if (token >= 0 && token < vocabulary_size) continue;
    fail<DataError>(function, "{} {}: token {}, but the model's vocabulary has {} (0..{})", what, index, token, vocabulary_size,
                    vocabulary_size - 1);
  }
}

/// Adapters in evaluation mode while it lives: nothing is dropped out. Those that were training train again after it.
class EvaluationMode {
 public:
  explicit EvaluationMode(std::span<const GenerationRequest> requests) {
    for (const GenerationRequest& request : requests) {
      if (!request.adapter || !request.adapter->is_training()) continue;
      request.adapter->eval();
      trained_.push_back(request.adapter);
    }
  }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;
  ~EvaluationMode() {
    for (const auto& adapter : trained_) adapter->train();
  }

 private:
  std::vector<std::shared_ptr<AttachedInterventions>> trained_;
};

/// A sequence of a forward, and the request it belongs to.
struct RequestRow {
  const GenerationRequest* request;
  int64_t prompt_length;
};

/// Edits of one forward in which sequence i belongs to `rows[i]`.
/// @param token_ids  (N) of the forward.
inline std::vector<PlannedEdit> plan_edits(const Layout& layout, std::span<const RequestRow> rows, std::span<const int64_t> token_ids) {
  std::vector<std::pair<const AttachedInterventions*, std::vector<EditedSequence>>> groups;
  for (size_t i = 0; i < rows.size(); ++i) {
    const AttachedInterventions* adapter = rows[i].request->adapter.get();
    if (adapter == nullptr || adapter->empty()) continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& each) { return each.first == adapter; });
    if (group == groups.end()) group = groups.insert(groups.end(), {adapter, {}});
    group->second.push_back({static_cast<int64_t>(i), rows[i].prompt_length, rows[i].request->scale, rows[i].request->row_scales});
  }
  std::vector<PlannedEdit> edits;
  for (const auto& [adapter, sequences] : groups) {
    for (PlannedEdit& edit : adapter->plan(layout, sequences, token_ids)) edits.push_back(std::move(edit));
  }
  return edits;
}

}  // namespace detail

}  // namespace reft
