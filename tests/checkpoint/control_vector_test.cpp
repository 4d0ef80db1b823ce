#include "reft/checkpoint/control_vector.hpp"

#include "reft/intervention/activation_addition.hpp"
#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::contains;
using reft::test::error_text;
using reft::test::relative_distance;
using reft::test::TemporaryFolder;

torch::Tensor logits(Model& model) {
  torch::NoGradGuard no_grad;
  model.eval();
  return model.forward(reft::Layout::ragged({6}), std::vector<int64_t>{4}, torch::tensor({1, 5, 9, 40, 7, 3}, torch::kInt64));
}

}  // namespace

TEST_CASE("a lobireft becomes a control vector and comes back as the same edit") {
  const TemporaryFolder folder;
  torch::manual_seed(3);
  Model model(reft::test::tiny_model());
  const auto made = model.attach<reft::LobiReFT>({.layer = 1, .positions = "all", .phase = reft::Phase::every}, {.rank = 2});
  const auto vectors = reft::as_control_vectors(model.interventions().attachments());
  REQUIRE(vectors.size() == 1);
  const torch::Tensor h = torch::zeros({1, 32});
  CHECK(relative_distance(vectors.at(1), made.front()->forward(h)[0]) < 1e-6);
  CHECK(reft::lost_in_control_vectors(model.interventions().attachments()).empty());

  reft::write_control_vectors(vectors, folder / "v.gguf", "llama");
  CHECK(reft::GgufFile::open(folder / "v.gguf").metadata().at("controlvector.model_hint") == "llama");
  Model loaded(model.base());
  reft::load_control_vectors(loaded, folder / "v.gguf");
  CHECK(loaded.interventions().attachments().front().phase == reft::Phase::every);
  // The prompt has 4 tokens of 6, and a lobireft of positions "all" edits the prompt alone in a plain forward.
  CHECK(relative_distance(logits(loaded), logits(model)) < 1e-5);
}

TEST_CASE("an added vector becomes a control vector, with its strength") {
  const torch::Tensor v = torch::arange(32, torch::kFloat32);
  Model model(reft::test::tiny_model());
  model.attach<reft::ActivationAddition>({.layer = 1, .positions = "all", .phase = reft::Phase::every}, {.vector = v, .alpha = -0.5});
  CHECK(reft::as_control_vectors(model.interventions().attachments()).at(1).equal(-0.5 * v));
}

TEST_CASE("what is no control vector is refused, and what one cannot hold is said") {
  const TemporaryFolder folder;
  const auto refusal = [](auto attach) {
    Model model(reft::test::tiny_model());
    attach(model);
    return error_text([&] { reft::as_control_vectors(model.interventions().attachments()); });
  };
  CHECK(contains(refusal([](Model& model) { model.attach<reft::LoReFT>({.layer = 1, .positions = "all"}, {}); }), "got loreft"));
  CHECK(contains(refusal([](Model& model) { model.attach<reft::LobiReFT>({.layer = 0, .positions = "all"}, {}); }), "got layers.0.block_output"));
  CHECK(contains(refusal([](Model& model) { model.attach<reft::LobiReFT>({.layer = 1, .positions = "f1+l1"}, {}); }), "got two at layers.1.block_output"));
  CHECK(contains(error_text([&] { reft::write_control_vectors({}, folder / "v.gguf", "llama"); }), "there is no vector to write"));
  Model model(reft::test::tiny_model());
  model.attach<reft::LobiReFT>({.layer = 1, .positions = "l1"}, {});
  CHECK(reft::lost_in_control_vectors(model.interventions().attachments()) ==
        std::vector<std::string>{"layers.1.block_output: positions l1: llama.cpp adds at all", "layers.1.block_output: phase prompt: llama.cpp adds in every phase"});

  const auto load = [&](const std::map<int, torch::Tensor>& vectors) {
    reft::write_control_vectors(vectors, folder / "v.gguf", "llama");
    Model fresh(model.base());
    return error_text([&] { reft::load_control_vectors(fresh, folder / "v.gguf"); });
  };
  CHECK(contains(load({{2, torch::ones({32})}}), "direction.2 is of no layer: the model has 2 (0..1)"));
  CHECK(contains(load({{1, torch::ones({8})}}), "direction.1 is 8 wide, the model 32"));
  CHECK(contains(load({{1, torch::zeros({32})}}), "direction.1 is zero or not finite"));
}
