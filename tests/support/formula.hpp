#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "reft/intervention/intervention.hpp"
#include "reft/tensor/edit_rows.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace reft::test {

using Leaves = std::map<std::string, torch::Tensor>;
using Formula = std::function<torch::Tensor(const torch::Tensor& h, const Leaves& leaves)>;

/// Four rows of seven, in three sequences.
inline RowContext some_rows() { return {.sequences = {0, 0, 1, 2}, .positions = {1, 3, 0, 2}}; }

/// An intervention in float64, inside the fused edit, against a formula in plain operators: the value, that no other row
/// changes, and the gradients of h and of what the forward reads, named in its order.
inline void check_formula(InterventionBase& intervention, const std::vector<std::string>& names, const Formula& formula,
                          const RowContext& context = some_rows()) {
  torch::manual_seed(4);
  const torch::Tensor indices = torch::tensor({1, 3, 4, 6}, torch::kInt64);
  const torch::Tensor start = torch::randn({7, intervention.hidden_size()}, torch::kFloat64);
  const torch::Tensor weights = torch::linspace(-1, 2, start.numel(), torch::kFloat64).view(start.sizes());
  const std::vector<torch::Tensor> read = intervention.forward_tensors();
  REQUIRE(read.size() == names.size());

  torch::Tensor h = start.clone().requires_grad_(true), other = start.clone().requires_grad_(true);
  std::vector<torch::Tensor> inputs{h}, leaves{other};
  Leaves named;
  for (size_t i = 0; i < names.size(); ++i) {
    inputs.push_back(read[i]);
    leaves.push_back(named[names[i]] = read[i].detach().clone().requires_grad_(true));
  }
  const torch::Tensor value = edit_rows(
      h + 0.0, indices, {0, h.size(1)},
      {[&](const torch::Tensor& x) { return intervention.edit(x, context); }, read, torch::kFloat64});
  const torch::Tensor expected = other.index_copy(0, indices, formula(other.index_select(0, indices), named).to(torch::kFloat64));
  CHECK(relative_distance(value, expected) < 1e-12);

  const auto gradients = torch::autograd::grad({(value * weights).sum()}, inputs);
  const auto reference = torch::autograd::grad({(expected * weights).sum()}, leaves);
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO((i == 0 ? std::string("h") : names[i - 1]));
    CHECK(relative_distance(gradients[i], reference[i]) < 1e-12);
  }
}

/// Away from the start, where no gradient vanishes.
inline void disturb(InterventionBase& intervention) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  for (torch::Tensor& parameter : intervention.parameters()) parameter.add_(0.3 * torch::randn_like(parameter));
}

}  // namespace reft::test
