#include "reft/checkpoint/adapterhub.hpp"

#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

// That the adapters package reads what is written here, and the reverse, is shown by tests/programs/export_test.sh.

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::contains;
using reft::test::error_text;
using reft::test::relative_distance;
using reft::test::TemporaryFolder;

torch::Tensor logits(Model& model) {
  torch::NoGradGuard no_grad;
  model.eval();
  return model.forward(reft::Layout::ragged({6}), std::vector<int64_t>{5}, torch::tensor({1, 5, 9, 40, 7, 3}, torch::kInt64));
}

Model model_with(const char* type, const std::string& positions, reft::Tie tie, nlohmann::json options = {{"rank", 3}}) {
  torch::manual_seed(8);
  Model model(reft::test::tiny_model());
  for (int layer = 0; layer < 2; ++layer) model.attach(type, {.layer = layer, .positions = positions, .tie = tie}, options);
  return model;
}

void write(const Model& model, const std::filesystem::path& folder) {
  reft::write_adapterhub(model.interventions().attachments(), 2, {}, folder);
}

nlohmann::json config_of(const std::filesystem::path& folder) {
  return nlohmann::json::parse(reft::test::read_text(folder / "adapter_config.json"));
}

}  // namespace

TEST_CASE("three forms go to the adapters package's folder and back, for each way to tie") {
  const TemporaryFolder folder;
  for (const char* type : {"loreft", "noreft", "direft"}) {
    for (const auto& [positions, tie] : {std::pair("f2+l1", reft::Tie::group), {"f2+l1", reft::Tie::all}, {"f3", reft::Tie::group}, {"l2", reft::Tie::all}}) {
      CAPTURE(type, positions);
      Model model = model_with(type, positions, tie, {{"rank", 3}, {"activation", "tanh"}, {"dropout", 0.1}});
      const auto path = folder / fmt::format("{}{}{}", type, positions, to_string(tie));
      write(model, path);
      CHECK(reft::is_adapterhub_folder(path));
      const auto config = config_of(path).at("config");
      CHECK(config.at("layers") == "all");
      CHECK(config.at("orthogonality") == (std::string(type) == "loreft"));
      CHECK(config.at("tied_weights") == (tie == reft::Tie::all && std::string(positions) == "f2+l1"));
      Model loaded(model.base());
      reft::load_adapterhub(loaded, path, type);
      CHECK(relative_distance(logits(loaded), logits(model)) < 1e-6);
      CHECK(loaded.interventions().attachments().front().intervention->options() == model.interventions().attachments().front().intervention->options());
    }
  }
}

TEST_CASE("tensors and layers are named as the package names them") {
  const TemporaryFolder folder;
  torch::manual_seed(8);
  Model model(reft::test::tiny_model());
  model.attach<reft::LoReFT>({.layer = 1, .positions = "f2+l1"}, {.rank = 3});
  write(model, folder / "a");
  CHECK(config_of(folder / "a").at("config").at("layers") == nlohmann::json({1}));
  const auto tensors = reft::load_torch_tensors(folder / "a/pytorch_adapter.bin");
  const std::string unit = "model.layers.1.reft_layer.refts.reft.units.";
  std::set<std::string> expected;
  for (const char* index : {"0.", "1."}) {
    for (const char* name : {"learned_source.weight", "learned_source.bias", "projection.parametrizations.weight.original",
                             "projection.parametrizations.weight.0.base"}) {
      expected.insert(unit + index + name);
    }
  }
  std::set<std::string> found;
  for (const auto& [name, tensor] : tensors) found.insert(name);
  CHECK(found == expected);
  CHECK(tensors.at(unit + "0.projection.parametrizations.weight.original").sizes() == torch::IntArrayRef({3, 32}));
  CHECK(tensors.at(unit + "0.projection.parametrizations.weight.0.base").sizes() == torch::IntArrayRef({32, 32}));
}

TEST_CASE("what the package has no place for is refused or said") {
  const TemporaryFolder folder;
  const auto refusal = [&](const Model& model) { return error_text([&] { write(model, folder / "x"); }); };
  CHECK(contains(refusal(model_with("consreft", "f1", reft::Tie::all)), "loreft, noreft or direft, got consreft"));
  CHECK(contains(refusal(model_with("loreft", "l1+f1", reft::Tie::group)), "got positions l1+f1"));
  CHECK(contains(refusal(model_with("loreft", "f2+l1", reft::Tie::position)), "tied by group or all, got position"));
  CHECK(contains(refusal(model_with("noreft", "f1", reft::Tie::all, {{"projection_bias", true}})), "without a projection bias"));
  Model uneven = model_with("loreft", "f1", reft::Tie::all);
  uneven.attach("loreft", {.layer = 1, .positions = "l1"}, {{"rank", 3}});
  CHECK(contains(refusal(uneven), "differ in positions"));
  CHECK_FALSE(std::filesystem::exists(folder / "x"));
  CHECK(reft::lost_in_adapterhub(model_with("direft", "f1", reft::Tie::all).interventions().attachments()).size() == 2);
  const Model both = model_with("loreft", "f2+l1", reft::Tie::all, {{"dropout", 0.1}, {"dropout_on", "edit"}});
  const std::string lost = fmt::format("{}", fmt::join(reft::lost_in_adapterhub(both.interventions().attachments()), "\n"));
  CHECK(contains(lost, "position rule paper"));
  CHECK(contains(lost, "dropout on the edit"));
}

TEST_CASE("folders of the package that cannot be read are refused, and the model stays as it was") {
  const TemporaryFolder folder;
  write(model_with("noreft", "f2+l1", reft::Tie::group), folder / "no");
  write(model_with("loreft", "f2+l1", reft::Tie::group), folder / "lo");
  Model model(reft::test::tiny_model());
  const auto refusal = [&](const char* name, const std::string& type = "") {
    return error_text([&] { reft::load_adapterhub(model, folder / name, type); });
  };
  CHECK(contains(refusal("no"), "its orthogonality is false, so it is noreft or direft, which it does not say: name it, got \"\""));
  CHECK(contains(refusal("lo", "noreft"), "its orthogonality is true, so it is loreft, got \"noreft\""));
  const auto change = [&](const char* name, auto edit) {
    auto config = config_of(folder / name);
    edit(config.at("config"));
    reft::test::write_text(folder / name / "adapter_config.json", config.dump());
  };
  change("no", [](auto& config) { config["r"] = 2; });
  CHECK(contains(refusal("no", "noreft"), "layer 0: "));
  change("no", [](auto& config) { config["tied_weights"] = "maybe"; });
  CHECK(contains(refusal("no", "noreft"), "adapter_config.json: config: "));
  auto tensors = reft::load_torch_tensors(folder / "lo/pytorch_adapter.bin");
  const auto base = tensors.extract("model.layers.1.reft_layer.refts.reft.units.1.projection.parametrizations.weight.0.base");
  reft::save_torch_tensors(folder / "lo/pytorch_adapter.bin", tensors);
  CHECK(contains(refusal("lo"), "layer 1: expected projection.parametrizations.weight.0.base with 2 dimensions"));
  tensors.insert({"model.layers.7.attention.weight", torch::zeros({2})});
  reft::save_torch_tensors(folder / "lo/pytorch_adapter.bin", tensors);
  CHECK(contains(refusal("lo"), "tensor model.layers.7.attention.weight is not of a ReFT unit"));
  CHECK(model.interventions().empty());
}
