#include <map>
#include <string>

#include "reft/analysis/interchange.hpp"
#include "reft/intervention/distributed_interchange.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/model/loading.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

// What pyvene computed is in pyvene.safetensors, written by make_pyvene.py, which says what each name is.

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::relative_distance;
using torch::Tensor;

const std::filesystem::path kGolden = std::filesystem::path(REFT_SOURCE_DIR) / "tests/golden";

const reft::SafetensorsFile& golden() {
  static const reft::SafetensorsFile file = reft::SafetensorsFile::open(kGolden / "pyvene.safetensors");
  return file;
}

Tensor expected(const std::string& name) { return reft::as_tensor(golden().at(name)).clone(); }

std::vector<int64_t> ids(const std::string& name) {
  const Tensor tensor = expected(name);
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

Tensor run(Model& model) {
  const auto batch = [](const std::string& name) { return reft::collate_prompts(std::vector<std::vector<int64_t>>{ids(name)}, torch::kCPU); };
  return reft::interchange(model, batch("run/base_ids"), batch("run/source_ids"));
}

}  // namespace

TEST_CASE("das computes what pyvene's LowRankRotatedSpaceIntervention does: values, and gradients of h and X") {
  const int64_t rank = GENERATE(1, 3, 8);
  INFO("rank " << rank);
  const auto tensor = [&](const std::string& name) { return expected("das/" + std::to_string(rank) + "/" + name); };
  reft::DAS das(24, {.rank = rank});
  das.load_state({{"R", tensor("R_start")}});
  {
    torch::NoGradGuard no_grad;
    das.named_parameters()["X"].copy_(tensor("X"));
  }
  CHECK(relative_distance(das.state().at("R"), tensor("R")) < 1e-6);
  const Tensor h = tensor("h").requires_grad_();
  (void)das.forward_tensors();
  const Tensor output = das.edit(h, {.source = tensor("s")});
  output.backward(tensor("g"));
  CHECK(relative_distance(output, tensor("output")) < 1e-6);
  CHECK(relative_distance(h.grad(), tensor("grad.h")) < 1e-5);
  CHECK(relative_distance(das.named_parameters()["X"].grad(), tensor("grad.X")) < 1e-5);
}

TEST_CASE("interchange and das give pyvene's logits on a whole model, with prompts of different lengths") {
  torch::NoGradGuard no_grad;
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "pyreft/base", {.dtype = torch::kFloat32});
  Model plain(base), rotated(base);
  plain.attach<reft::Interchange>({.layer = 0, .positions = "f2+l1"});
  rotated.attach<reft::DAS>({.layer = 0, .positions = "l1"}, {.rank = 3}).front()->load_state({{"R", expected("run/R")}});
  CHECK(relative_distance(run(plain), expected("run/interchange")) < 1e-5);
  CHECK(relative_distance(run(rotated), expected("run/das")) < 1e-5);
}
