#include "reft/checkpoint/adapter.hpp"

#include "reft/analysis/interchange.hpp"
#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::contains;
using reft::test::error_text;

Model with_interventions(const reft::CausalLM& base) {
  torch::manual_seed(5);
  Model model(base);
  model.attach<reft::LoReFT>({.layer = 0, .positions = "f2+l2"}, {.rank = 4});
  model.attach<reft::NoReFT>({.layer = 1, .component = reft::Component::mlp_output, .positions = "all", .phase = reft::Phase::every},
                             {.rank = 2, .activation = "relu", .projection_bias = true});
  model.attach<reft::LobiReFT>({.layer = 0, .component = reft::Component::block_input, .positions = "all",
                                .phase = reft::Phase::decode.in_steps(2, 6), .token_ids = {7, 40}}, {.rank = 2});
  model.attach<reft::ConsReFT>({.layer = 1, .component = reft::Component::head_attention_value_output, .head = 2, .positions = "-1"}, {.rank = 1});
  return model;
}

torch::Tensor logits_of(Model& model) {
  torch::NoGradGuard no_grad;
  model.eval();
  const std::vector<int64_t> lengths{6};
  return model.forward(reft::Layout::ragged({6}), lengths, torch::tensor({1, 5, 9, 40, 7, 3}, torch::kInt64));
}

/// Replaces `from` once in a text file.
void edit(const std::filesystem::path& path, const std::string& from, const std::string& to) {
  std::string text = reft::test::read_text(path);
  const auto place = text.find(from);
  REQUIRE(place != std::string::npos);
  reft::test::write_text(path, text.replace(place, from.size(), to));
}

}  // namespace

TEST_CASE("a saved adapter gives the in-memory logits after loading") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  Model model = with_interventions(base);
  reft::save_adapter(model, folder / "adapter", {"tiny", "alpaca"});
  Model loaded(base);
  const reft::AdapterInfo info = reft::load_adapter(loaded, folder / "adapter");
  CHECK(info.base_model == "tiny");
  CHECK(info.prompt_template == "alpaca");
  CHECK((logits_of(loaded) - logits_of(model)).abs().max().item<double>() < 1e-6);
  CHECK((logits_of(loaded) - logits_of(*std::make_unique<Model>(base))).abs().max().item<double>() > 1e-3);
  CHECK(loaded.trainable_summary() == model.trainable_summary());
  for (size_t i = 0; i < model.interventions().attachments().size(); ++i) {
    const auto &a = model.interventions().attachments()[i], &b = loaded.interventions().attachments()[i];
    CHECK(a.expression == b.expression);
    CHECK(a.tie == b.tie);
    CHECK(a.phase == b.phase);
    CHECK(a.token_ids == b.token_ids);
    CHECK(a.intervention->options() == b.intervention->options());
  }
}

TEST_CASE("loading an adapter draws no random numbers") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  Model model = with_interventions(base), loaded(base);
  model.attach<reft::ReFTr1>({.layer = 1, .positions = "0"});
  model.attach<reft::DistributedInterchange>({.layer = 1, .positions = "1"}, {.rank = 2});
  reft::save_adapter(model, folder / "adapter");
  torch::manual_seed(9);
  const torch::Tensor expected = torch::rand({4});
  torch::manual_seed(9);
  reft::load_adapter(loaded, folder / "adapter");
  CHECK(torch::equal(torch::rand({4}), expected));
  CHECK(reft::LoReFT(8, {.rank = 2}).state().at("R").abs().max().item<double>() > 0.0);  // others start at random again
}

TEST_CASE("an adapter saved twice is the same bytes") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  Model model = with_interventions(base);
  reft::save_adapter(model, folder / "a");
  Model loaded(base);
  reft::load_adapter(loaded, folder / "a");
  reft::save_adapter(loaded, folder / "b");
  for (const char* name : {reft::kAdapterConfigName, reft::kAdapterTensorsName}) {
    CHECK(reft::test::read_text(folder / "a" / name) == reft::test::read_text(folder / "b" / name));
  }
}

TEST_CASE("saving overwrites only when asked, and leaves other files alone") {
  const reft::test::TemporaryFolder folder;
  Model model = with_interventions(reft::test::tiny_model());
  reft::test::write_text(folder / "notes.txt", "mine");
  reft::save_adapter(model, folder.path());
  CHECK(contains(error_text([&] { reft::save_adapter(model, folder.path()); }), "an adapter is there already"));
  reft::save_adapter(model, folder.path(), {}, /*overwrite=*/true);
  CHECK(reft::test::entry_count(folder.path()) == 3);
  CHECK(reft::test::read_text(folder / "notes.txt") == "mine");
}

TEST_CASE("an adapter that overlaps an edit of the model, or itself, is refused and nothing of it is attached") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  Model model(base), target(base);
  for (const int layer : {0, 1}) model.attach<reft::LoReFT>({.layer = layer, .positions = "f2"}, {.rank = 2});
  reft::save_adapter(model, folder / "adapter");
  target.attach<reft::LoReFT>({.layer = 1, .positions = "f1"}, {.rank = 2});
  CHECK_THROWS_AS(reft::load_adapter(target, folder / "adapter"), reft::ConfigError);
  CHECK(target.interventions().attachments().size() == 1);
  CHECK(target.interventions().interventions().size() == 1);
  edit(folder / "adapter" / reft::kAdapterConfigName, "layers.1.block_output", "layers.0.block_output");
  Model empty(base);
  CHECK_THROWS_AS(reft::load_adapter(empty, folder / "adapter"), reft::ConfigError);
  CHECK(empty.interventions().empty());
}

TEST_CASE("damaged, mismatched and foreign adapters are refused, and the model stays as it was") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  const auto adapter = folder / "adapter", config = adapter / reft::kAdapterConfigName, tensors = adapter / reft::kAdapterTensorsName;
  Model model = with_interventions(base);
  reft::save_adapter(model, adapter);
  Model target(base);
  const auto refusal = [&] {
    const std::string text = error_text([&] { reft::load_adapter(target, adapter); });
    CHECK(target.interventions().empty());
    return text;
  };
  SECTION("a layer the model does not have") {
    edit(config, "\"layers.1.mlp_output\"", "\"layers.40.mlp_output\"");
    CHECK(refusal() == "[reft::load_adapter] adapter_config.json: interventions[2].layer = 40, but the model has 2 layers (0..1)");
  }
  SECTION("an unknown type") {
    edit(config, "\"noreft\"", "\"moreft\"");
    CHECK(contains(refusal(), "adapter_config.json: interventions[2]: [reft::make_intervention] \"moreft\": expected one of"));
  }
  SECTION("an unknown key") {
    edit(config, "\"rank\"", "\"runk\"");
    CHECK(contains(refusal(), "unknown option \"runk\""));
  }
  SECTION("a missing key") {
    edit(config, "\"phase\"", "\"phrase\"");
    CHECK(refusal() == "[reft::load_adapter] adapter_config.json: interventions[0].phase is missing");
  }
  SECTION("malformed positions") {
    edit(config, "\"positions\": \"f2\"", "\"positions\": \"x2\"");
    CHECK(contains(refusal(), "adapter_config.json: interventions[0]: [reft::parse_positions] \"x2\": expected"));
  }
  SECTION("a newer format") {
    edit(config, "\"format_version\": 2", "\"format_version\": 3");
    CHECK(refusal() == "[reft::load_adapter] adapter_config.json: format_version = 3, but this is reft 0.1.0, which reads version 2");
  }
  SECTION("another base") {
    edit(config, "\"hidden_size\": 32", "\"hidden_size\": 64");
    CHECK(contains(refusal(), "the adapter is of a base with 2 layers of width 64, but the model has 2 of width 32"));
  }
  SECTION("not JSON") {
    reft::test::write_text(config, "{");
    CHECK(contains(refusal(), "adapter_config.json: expected a JSON object"));
  }
  SECTION("a flipped bit") {
    std::string bytes = reft::test::read_text(tensors);
    bytes[bytes.size() - 3] ^= 4;
    reft::test::write_text(tensors, bytes);
    CHECK(contains(refusal(), "the file is damaged"));
  }
  SECTION("a truncated file") {
    const std::string bytes = reft::test::read_text(tensors);
    reft::test::write_text(tensors, bytes.substr(0, bytes.size() / 2));
    CHECK(contains(refusal(), "adapter_model.safetensors"));
  }
  SECTION("tensors of another adapter") {
    torch::manual_seed(77);
    Model other(base);
    other.attach<reft::LoReFT>({.layer = 0}, {.rank = 4});
    reft::save_adapter(other, folder / "other");
    std::filesystem::copy_file(folder / "other" / reft::kAdapterTensorsName, tensors, std::filesystem::copy_options::overwrite_existing);
    CHECK(contains(refusal(), "were not written together"));
  }
  SECTION("no adapter at all") {
    std::filesystem::remove(config);
    CHECK(contains(refusal(), "adapter_config.json"));
  }
}

TEST_CASE("every method that is no low-rank form is saved and loaded, and gives the same logits") {
  const reft::CausalLM base = reft::test::tiny_model();
  torch::manual_seed(5);
  const torch::Tensor v = torch::randn({32}), R = reft::Orthonormal::random_orthonormal_rows(2, 32);
  const std::map<std::string, std::function<void(Model&, const reft::AttachOptions&)>> methods{
      {"red", [](Model& m, const auto& where) { m.attach<reft::RED>(where); }},
      {"activation_addition", [&](Model& m, const auto& where) { m.attach<reft::ActivationAddition>(where, {.vector = v, .alpha = 0.5}); }},
      {"zero_ablation", [](Model& m, const auto& where) { m.attach<reft::ZeroAblation>(where); }},
      {"zero_ablation of a subspace", [&](Model& m, const auto& where) { m.attach<reft::ZeroAblation>(where, {.R = R}); }},
      {"mean_ablation", [&](Model& m, const auto& where) { m.attach<reft::MeanAblation>(where, {.mean = v}); }},
      {"noise_ablation", [](Model& m, const auto& where) { m.attach<reft::NoiseAblation>(where, {.sigma = 2.0, .seed = 3}); }},
      {"interchange", [](Model& m, const auto& where) { m.attach<reft::Interchange>(where); }},
      {"das", [](Model& m, const auto& where) { m.attach<reft::DAS>(where, {.rank = 3}); }},
      {"reft_r1", [](Model& m, const auto& where) { m.attach<reft::ReFTr1>(where, {.alpha = 4.0}); }},
  };
  const auto batch = reft::collate_prompts(std::vector<std::vector<int64_t>>{{1, 5, 9, 40}, {7, 3}}, torch::kCPU);
  const auto source = reft::collate_prompts(std::vector<std::vector<int64_t>>{{2, 2, 8}, {11, 49}}, torch::kCPU);
  torch::NoGradGuard no_grad;
  const torch::Tensor plain = base->forward(batch.input_ids, reft::ForwardContext(batch.layout));
  for (const auto& [name, attach] : methods) {
    INFO(name);
    const reft::test::TemporaryFolder folder;
    Model model(base), loaded(base);
    attach(model, {.layer = 0, .positions = "f1+l1", .tie = reft::Tie::all});
    for (torch::Tensor& parameter : model.parameters()) parameter.add_(0.3 * torch::randn_like(parameter));
    reft::save_adapter(model, folder / "adapter");
    reft::load_adapter(loaded, folder / "adapter");
    const auto& saved = *model.interventions().attachments().front().intervention;
    const auto& found = *loaded.interventions().attachments().front().intervention;
    CHECK(name.starts_with(found.type()));
    CHECK(found.options() == saved.options());
    model.eval();
    loaded.eval();
    const torch::Tensor logits = reft::interchange(model, batch, source);
    CHECK((reft::interchange(loaded, batch, source) - logits).abs().max().item<double>() < 1e-5);
    CHECK((logits - plain).abs().max().item<double>() > 1e-2);
  }
}
