#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <map>
#include <string>

#include "reft/intervention/loreft.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/io/safetensors.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/tensor/edit_rows.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

// What pyreft computed is in pyreft_values.safetensors, written by make_pyreft_values.py, which says what each name is.
// `bash tests/golden/fidelity.sh` makes the same for every size and activation and prints the table of maxima.

namespace {

/// The largest distances over some cases, each relative to the largest |reference| of its tensor, or to 1, the scale of h
/// and of the arriving gradient, where cancellation leaves less (consreft at r = D has no gradient of h at all). Relative
/// to the tensor alone, the sums behind small gradients would count: 2.0e-5 at most in float32 (loreft, D = 2048, r = 1, gelu),
/// where pyreft's own are up to 4.1e-5 away.
struct Distance {
  double forward = 0.0, gradients = 0.0;

  void add(const std::string& tensor_name, const torch::Tensor& found, const torch::Tensor& reference) {
    double& largest = tensor_name == "output" ? forward : gradients;
    const torch::Tensor wide = reference.to(torch::kFloat64);
    const double scale = std::max(1.0, wide.abs().max().item<double>());
    largest = std::max(largest, (found.to(torch::kFloat64) - wide).abs().max().item<double>() / scale);
  }
  void add(const Distance& other) {
    forward = std::max(forward, other.forward);
    gradients = std::max(gradients, other.gradients);
  }
};

struct Distances {
  int cases = 0;
  Distance reft, pyreft, between;  // of either from pyreft's formula in float64, and of one from the other

  void add(const Distances& other) {
    cases += other.cases;
    reft.add(other.reft);
    pyreft.add(other.pyreft);
    between.add(other.between);
  }
};

/// One case of the file: <form>/<D>/<r>/<activation>/<dtype>.
class Case {
 public:
  Case(const reft::SafetensorsFile& file, std::string name) : file_(file), name_(std::move(name)) {
    std::array<std::string, 5> parts;
    size_t at = 0;
    for (std::string& part : parts) {
      const size_t end = std::min(name_.find('/', at), name_.size());
      part = name_.substr(at, end - at);
      at = end + 1;
    }
    form = parts[0], dtype = parts[4];
    intervention_ = reft::make_intervention(
        form, std::stoll(parts[1]),
        {{"rank", std::stoll(parts[2])}, {"activation", parts[3]}, {"projection_bias", has("c")}});
    is_square_ = parts[1] == parts[2];
    load();
  }

  Distances compare() const {
    torch::Tensor h = tensor("h").requires_grad_();
    const reft::RowEdit edit{[this](const torch::Tensor& x) { return intervention_->forward(x); },
                             intervention_->forward_tensors()};
    // Not a leaf, so that the edit is in place as it is inside a model.
    const torch::Tensor output = reft::edit_rows(h + 0.0, torch::arange(h.size(0)), {0, h.size(1)}, edit);
    output.backward(tensor("g"));
    std::map<std::string, torch::Tensor> found{{"output", output}, {"grad.h", h.grad()}};
    for (const auto& parameter : intervention_->named_parameters()) {
      found["grad." + parameter.key()] = parameter.value().grad();
    }
    if (is_square_) found.erase("grad.X");
    Distances distances{1, {}, {}, {}};
    for (const auto& [name, ours] : found) {
      const torch::Tensor exact = tensor(name), theirs = tensor("pyreft." + name);
      distances.reft.add(name, ours, exact);
      distances.pyreft.add(name, theirs, exact);
      distances.between.add(name, ours, theirs);
    }
    return distances;
  }

  std::string form, dtype;

 private:
  bool has(const std::string& tensor_name) const { return file_.contains(name_ + "/" + tensor_name); }
  torch::Tensor tensor(const std::string& tensor_name) const {
    return reft::as_tensor(file_.at(name_ + "/" + tensor_name)).clone();
  }

  /// Begins where pyreft's parametrization does and moves X as far; at r = D, where torch uses the matrix exponential
  /// and its X means something else, begins at the R it comes to.
  void load() {
    std::map<std::string, torch::Tensor> state;
    for (const auto& [name, own] : intervention_->state()) {
      const bool starts = name == "R" && has("R_start") && !is_square_;
      state[name] = tensor(starts ? "R_start" : name).to(own.scalar_type());
    }
    intervention_->load_state(state);
    if (!has("X") || is_square_) return;
    torch::NoGradGuard no_grad;
    intervention_->named_parameters()["X"].copy_(tensor("X"));
    REQUIRE(reft::test::relative_distance(intervention_->state().at("R"), tensor("R")) < 5e-6);
  }

  const reft::SafetensorsFile& file_;
  std::string name_;
  std::shared_ptr<reft::InterventionBase> intervention_;
  bool is_square_ = false;
};

void print(const std::map<std::string, Distances>& table) {
  fmt::print("| form | h | cases | reft: forward | gradients | pyreft: forward | gradients | apart: forward | gradients |\n");
  fmt::print("|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [key, of] : table) {
    const size_t slash = key.find('/');
    fmt::print("| {} | {} | {} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.1e} |\n", key.substr(0, slash),
               key.substr(slash + 1), of.cases, of.reft.forward, of.reft.gradients, of.pyreft.forward, of.pyreft.gradients,
               of.between.forward, of.between.gradients);
  }
}

}  // namespace

// float32: a float's half unit is 6e-8, and a gradient of X is a sum over D terms. bfloat16: its half unit is 4e-3; reft
// computes in float32 and rounds the new h once, where pyreft computes W h + b in bfloat16.
TEST_CASE("the six forms give pyreft's values and gradients") {
  const char* named = std::getenv("REFT_PYREFT_VALUES");
  const auto file =
      reft::SafetensorsFile::open(named != nullptr ? named : REFT_SOURCE_DIR "/tests/golden/pyreft_values.safetensors");
  const std::string suffix = "/output";
  std::map<std::string, Distances> table;
  for (const auto& [name, view] : file.tensors()) {
    if (!name.ends_with(suffix)) continue;
    const Case one(file, name.substr(0, name.size() - suffix.size()));
    const Distances found = one.compare();
    const bool is_float32 = one.dtype == "float32";
    INFO(name << ": forward " << found.reft.forward << ", gradients " << found.reft.gradients);
    CHECK(found.reft.forward <= (is_float32 ? 1e-6 : 1e-2));
    CHECK(found.reft.gradients <= (is_float32 ? 1e-5 : 1e-2));
    table[one.form + "/" + one.dtype].add(found);
  }
  CHECK(table.size() == 12);  // six forms, two dtypes
  if (named != nullptr) print(table);
}
