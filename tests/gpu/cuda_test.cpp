#include <torch/cuda.h>

#include "reft/generate/generate.hpp"
#include "reft/train/nccl_communicator.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/examples.hpp"
#include "support/shared.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;

bool has_cuda() {
  if (torch::cuda::is_available()) return true;
  reft::test::skip("no CUDA device");
  return false;
}

/// The same base and interventions on a device; values are drawn on the CPU.
Model model_on(torch::Device device) {
  const reft::CausalLM base = reft::test::tiny_model();
  torch::manual_seed(5);
  Model model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = "f1+l1"}, {.rank = 4});
  model.to(device);
  return model;
}

}  // namespace

TEST_CASE("CUDA gives the CPU's losses and tokens") {
  if (!has_cuda()) return;
  std::vector<std::vector<double>> losses;
  std::vector<std::vector<int64_t>> tokens;
  for (const torch::Device device : {torch::Device(torch::kCPU), torch::Device(torch::kCUDA, 0)}) {
    Model model = model_on(device);
    reft::test::LossRecorder recorder;
    reft::Trainer trainer(model, {.epochs = 5, .batch_size = 4, .learning_rate = 1e-2});
    trainer.add(recorder).fit(reft::test::some_examples(12));
    losses.push_back(recorder.losses);
    tokens.push_back(reft::generate(model, {{3, 14, 15}}, {.max_new_tokens = 10, .use_end_tokens = false})[0].tokens);
    for (const auto& intervention : model.interventions().interventions()) {
      CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
    }
  }
  // Other kernels, other orders of summation: float32 rounding, grown over 15 steps of Adam.
  for (size_t i = 0; i < losses[0].size(); ++i) CHECK(losses[1][i] == Approx(losses[0][i]).margin(1e-3));
  CHECK(tokens[1] == tokens[0]);
}

#ifdef REFT_WITH_NCCL
TEST_CASE("NCCL adds up the messages of its ranks, here of one") {
  if (!has_cuda()) return;
  reft::NcclCommunicator communicator({.port = 29611}, torch::Device(torch::kCUDA, 0));
  torch::Tensor values = torch::arange(1000, torch::TensorOptions(torch::kFloat64).device(communicator.device()));
  communicator.all_reduce_sum(values);
  CHECK(values.cpu().equal(torch::arange(1000, torch::kFloat64)));
  std::vector<double> sums{2.0, 3.0};
  const torch::Tensor gradient = torch::full({3}, 0.5, communicator.device());
  reft::all_reduce(communicator, {gradient}, sums);
  CHECK(sums == std::vector<double>{2.0, 3.0});
  CHECK(gradient.cpu().equal(torch::full({3}, 0.5)));
}
#endif
