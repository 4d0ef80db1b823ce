#include "reft/checkpoint/pyreft.hpp"

#include "reft/checkpoint/any_adapter.hpp"
#include "reft/checkpoint/easysteer.hpp"
#include "reft/checkpoint/pyreft_writer.hpp"
#include "reft/intervention/loreft.hpp"
#include "reft/model/loading.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

// Golden files are pyreft's own: tests/golden/make_pyreft.py.

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::contains;
using reft::test::error_text;
using reft::test::read_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

const std::filesystem::path kGolden = std::filesystem::path(REFT_SOURCE_DIR) / "tests/golden/pyreft";
const std::vector<std::string> kForms{"loreft", "consreft", "lobireft", "ortho_direft", "noreft", "direft"};

torch::Tensor logits(Model& model) {
  const std::vector<int64_t> tokens{1, 7, 30, 2, 19, 38, 4, 11, 25}, lengths{9};
  torch::NoGradGuard no_grad;
  model.eval();
  return model.forward(reft::Layout::ragged(lengths, torch::kCPU), lengths, torch::tensor(tokens, torch::kInt64));
}

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

std::filesystem::path copy_of(const std::string& form, const TemporaryFolder& folder) {
  std::filesystem::copy(kGolden / form, folder / form);
  return folder / form;
}

/// Renames every file intkey_<key>.bin by a rule for the key.
void rename_keys(const std::filesystem::path& folder, const std::function<std::string(std::string)>& rule) {
  for (const auto& [key, path] : reft::detail::find_pyreft_files(folder)) {
    std::filesystem::rename(path, folder / ("intkey_" + rule(key) + ".bin"));
  }
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) text.replace(at, from.size(), to);
}

void edit(const std::filesystem::path& file, const std::function<void(nlohmann::json&)>& change) {
  auto json = nlohmann::json::parse(read_text(file));
  change(json);
  write_text(file, json.dump());
}

std::string refusal(const std::filesystem::path& folder, const reft::PyreftOptions& options = {}) {
  return error_text([&] { reft::read_pyreft(folder, options); });
}

}  // namespace

TEST_CASE("pyreft's folders of all six classes give pyreft's logits and matrices") {
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "base");
  const auto expected = reft::SafetensorsFile::open(kGolden / "expected.safetensors");
  Model plain(base);
  for (const std::string& form : kForms) {
    INFO(form);
    Model model(base);
    reft::load_any_adapter(model, kGolden / form, {.positions = "f2+l2"});
    CHECK(largest_difference(logits(model), reft::as_tensor(expected.at(form + "/logits"))) < 1e-5);
    CHECK(largest_difference(logits(plain), reft::as_tensor(expected.at(form + "/logits"))) > 1e-2);  // or nothing was shown
    for (const auto& [key, intervention] : reft::read_pyreft(kGolden / form)) {
      CHECK(intervention->type() == form);
      for (const auto& [name, tensor] : intervention->state()) {
        INFO(to_string(key) << "/" << name);
        CHECK(largest_difference(tensor, reft::as_tensor(expected.at(form + "/" + to_string(key) + "/" + name))) < 1e-6);
      }
    }
  }
}

TEST_CASE("what is written as pyreft is read back as the same function") {
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "base");
  const TemporaryFolder folder;
  for (const std::string& form : kForms) {
    INFO(form);
    torch::manual_seed(4);
    Model model(base);
    for (const int layer : {0, 1}) model.attach(form, {.layer = layer, .positions = "f2+l1"}, {{"rank", 3}});
    reft::write_pyreft(reft::as_pyreft(model.interventions().attachments()), folder / form);
    Model loaded(base);
    reft::load_pyreft(loaded, folder / form, {.positions = "f2+l1"});
    CHECK(largest_difference(logits(model), logits(loaded)) < 1e-5);
    CHECK(contains(error_text([&] { reft::write_pyreft(reft::read_pyreft(folder / form), folder / form); }), "is not empty"));
    const auto config = nlohmann::json::parse(read_text(folder / form / "config.json"));
    CHECK(config["sorted_keys"] == nlohmann::json::parse(read_text(kGolden / "loreft/config.json"))["sorted_keys"]);
    CHECK(config["representations"] == nlohmann::json::parse(read_text(kGolden / "loreft/config.json"))["representations"]);
    CHECK(config["intervention_types"] == nlohmann::json::parse(read_text(kGolden / form / "config.json"))["intervention_types"]);
  }
}

TEST_CASE("an evaluated parametrization is torch's, also at full rank and with columns that weight decay has ended") {
  torch::manual_seed(9);
  const torch::Tensor B = reft::Orthonormal::random_orthonormal_rows(6, 6);
  torch::Tensor X = 0.3 * torch::randn({6, 2});
  X.diagonal().fill_(-1);
  torch::Tensor Q = torch::eye(6);  // H_1 H_2, reflector by reflector
  for (int j = 0; j < 2; ++j) {
    torch::Tensor v = X.select(1, j).clone();
    v.narrow(0, 0, j + 1).zero_();
    v[j] = 1;
    Q = Q.matmul(torch::eye(6) - 2 * torch::outer(v, v) / v.dot(v));
  }
  CHECK(largest_difference(reft::detail::evaluate_orthogonal(X, B), -B.matmul(Q).narrow(1, 0, 2)) < 1e-6);
  X[1][1] = -0.9999;
  CHECK(reft::detail::evaluate_orthogonal(X, B).select(1, 1).abs().max().item<double>() == 0.0);
  const auto full = reft::detail::evaluate_orthogonal(-torch::eye(6) + torch::randn({6, 6}).tril(-1), B);
  CHECK(reft::orthonormality_error(full.t()) < 1e-6);
  for (const int64_t rank : {2, 6}) {
    const torch::Tensor R = reft::Orthonormal::random_orthonormal_rows(rank, 6);
    const auto [original, base] = reft::detail::orthogonal_start(R);
    CHECK(torch::equal(base.narrow(1, 0, rank), R.t()));
    CHECK(reft::orthonormality_error(base) < 1e-6);
    CHECK(largest_difference(reft::detail::evaluate_orthogonal(original, base), R.t()) < 1e-6);
  }
}

TEST_CASE("keys of three generations, and of modules named by the user") {
  const reft::PyreftKey key{{.layer = 8}, 1};
  CHECK(to_string(key) == "layer_8_comp_block_output_unit_pos_nunit_1#1");
  for (const char* text : {"layer.8.repr.block_output.unit.pos.nunit.1#1", "layer.8.comp.block_output.unit.pos.nunit.1#1",
                           "layer_8_comp_block_output_unit_pos_nunit_1#1", "comp.model.layers[8].output.unit.pos.nunit.1#1",
                           "comp_model_layers[8]_output_unit_pos_nunit_1#1", "comp_transformer_h[8]_output_unit_pos_nunit_1#1"}) {
    INFO(text);
    CHECK(reft::parse_pyreft_key(text) == key);
  }
  CHECK(reft::parse_pyreft_key("comp_model_layers[3]_mlp_output_unit_pos_nunit_1#0").site ==
        reft::Site{.layer = 3, .component = reft::Component::mlp_output});
  for (const char* text : {"", "layer_8", "layer_8_comp_block_output_unit_h_nunit_1#0", "layer_8_comp_block_output_unit_pos_nunit_2#0",
                           "layer_x_comp_block_output_unit_pos_nunit_1#0", "layer_8_comp_logits_unit_pos_nunit_1#0",
                           "layer_8_comp_block_output_unit_pos_nunit_1#-1", "comp_model_layers[8_output_unit_pos_nunit_1#0",
                           "comp_model_norm_output_unit_pos_nunit_1#0", "layer_99999999999_comp_block_output_unit_pos_nunit_1#0"}) {
    INFO(text);
    CHECK(contains(error_text([&] { reft::parse_pyreft_key(text); }), "[reft::read_pyreft]"));
  }
  CHECK(contains(error_text([] { to_string(reft::PyreftKey{{.component = reft::Component::logits}, 0}); }), "pyreft has no name for this place"));
}

TEST_CASE("old names, short rows, rows with names and trainers' folders are read as the newest") {
  const TemporaryFolder folder;
  const auto adapter = copy_of("loreft", folder);
  SECTION("dots") {
    rename_keys(adapter, [](std::string key) {
      for (char& c : key) c = c == '_' ? '.' : c;
      replace_all(key, "block.output", "block_output");
      return key;
    });
  }
  SECTION("dots and repr") {
    rename_keys(adapter, [](std::string key) {
      replace_all(key, "_comp_", ".repr.");
      return key;
    });
  }
  SECTION("13 fields") {
    edit(adapter / "config.json", [](auto& json) {
      for (auto& row : json["representations"]) row.erase(13);
    });
  }
  SECTION("fields with names") {
    edit(adapter / "config.json", [](auto& json) {
      for (auto& row : json["representations"]) {
        row = {{"layer", row[0]}, {"component", "block_output"}, {"unit", "pos"}, {"max_number_of_units", 1}, {"hidden_source_representation", nullptr}};
      }
    });
  }
  SECTION("modules named by the user") {
    rename_keys(adapter, [](std::string key) {
      replace_all(key, "layer_0_comp_block", "comp_model_layers[0]");
      replace_all(key, "layer_1_comp_block", "comp_model_layers[1]");
      return key;
    });
    edit(adapter / "config.json", [](auto& json) {
      for (auto& row : json["representations"]) {
        row[1] = fmt::format("model.layers[{}].output", row[0].template get<int>());
        row[0] = 0;
      }
    });
  }
  SECTION("no config.json") { std::filesystem::remove(adapter / "config.json"); }
  SECTION("a trainer's checkpoint around the folder") {
    std::filesystem::remove_all(adapter);
    std::filesystem::create_directory(adapter);
    std::filesystem::copy(kGolden / "loreft_trainer", adapter / "intervenable_model");
  }
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "base");
  Model model(base), original(base);
  reft::load_any_adapter(model, adapter, {.positions = "f2+l2"});
  reft::load_pyreft(original, kGolden / "loreft", {.positions = "f2+l2"});
  CHECK(torch::equal(logits(model), logits(original)));
}

TEST_CASE("without a config.json, classes of equal tensors must be told apart") {
  const TemporaryFolder folder;
  for (const std::string& form : kForms) {
    const auto adapter = copy_of(form, folder);
    std::filesystem::remove(adapter / "config.json");
    const bool told = form == "loreft" || form == "ortho_direft";
    CHECK((refusal(adapter) == "no error") == told);
    CHECK(reft::read_pyreft(adapter, {.type = form}).front().intervention->type() == form);
  }
  CHECK(contains(refusal(folder / "consreft"), "its tensors do not tell consreft from lobireft; say which, as in --intervention consreft"));
  CHECK(contains(refusal(folder / "consreft", {.type = "direft"}), "tensor proj_layer.weight is missing"));
  CHECK(contains(refusal(folder / "loreft", {.type = "consreft"}), "it is a loreft, not a consreft"));
  CHECK(contains(refusal(kGolden / "loreft", {.type = "direft"}), "it is a loreft, not a direft"));
  CHECK(refusal(kGolden / "direft", {.type = "nodireft"}) == "no error");  // pyreft's own name of it
}

TEST_CASE("a folder is read with a free projection as the same function") {
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "base");
  for (const auto& [form, free] : {std::pair("loreft", "noreft"), std::pair("ortho_direft", "direft")}) {
    INFO(form);
    Model orthonormal(base), loaded(base);
    reft::load_pyreft(orthonormal, kGolden / form, {.positions = "f2+l2"});
    reft::load_pyreft(loaded, kGolden / form, {.positions = "f2+l2", .type = free, .dropout = 0.5, .dropout_on = reft::DropoutOn::edit});
    CHECK(largest_difference(logits(orthonormal), logits(loaded)) < 1e-5);
    const auto intervention = loaded.interventions().interventions().front();
    CHECK(intervention->type() == free);
    CHECK(intervention->options()["dropout_on"] == "edit");
  }
}

TEST_CASE("positions and tying must be given, and fit") {
  const reft::CausalLM base = reft::load_causal_lm(kGolden / "base");
  Model model(base);
  const auto load_error = [&](const reft::PyreftOptions& options) {
    const std::string text = error_text([&] { reft::load_any_adapter(model, kGolden / "loreft", options); });
    CHECK(model.interventions().empty());
    return text;
  };
  CHECK(contains(load_error({}), "a pyreft folder does not say where it acts; give the positions"));
  CHECK(contains(load_error({.positions = "f2+l2", .tie = reft::Tie::all}), "layers.0.block_output has 2 interventions, but positions f2+l2 tied by all want 1"));
  CHECK(contains(load_error({.positions = "f2"}), "positions f2 tied by group want 1"));
  CHECK(contains(load_error({.positions = "f2+l2", .tie = reft::Tie::position}), "want 4"));
  CHECK(contains(load_error({.positions = "f2+l2", .activation = "no"}), "read_pyreft"));
  Model narrow(reft::test::tiny_model());
  CHECK(contains(error_text([&] { reft::load_any_adapter(narrow, kGolden / "loreft", {.positions = "f2+l2"}); }),
                 "it is of a base 24 wide there, but the model is 32 wide"));
  reft::load_any_adapter(model, kGolden / "loreft", {.positions = "f1+l1", .tie = reft::Tie::group, .activation = "gelu", .dropout = 0.1});
  const auto& attachment = model.interventions().attachments().front();
  CHECK(attachment.positions.text() == "f1");
  CHECK(attachment.expression == "f1+l1");
  CHECK(attachment.intervention->options()["activation"] == "gelu");
}

TEST_CASE("reft's own folder and given positions must agree") {
  const reft::CausalLM base = reft::test::tiny_model();
  const TemporaryFolder folder;
  Model model(base);
  model.attach<reft::LoReFT>({.layer = 0, .positions = "f2+l2"}, {.rank = 2});
  reft::save_adapter(model, folder / "a");
  const auto load = [&](const reft::PyreftOptions& options) {
    Model target(base);
    return error_text([&] { reft::load_any_adapter(target, folder / "a", options); });
  };
  CHECK(load({}) == "no error");
  CHECK(load({.positions = "f2+l2", .tie = reft::Tie::group}) == "no error");
  CHECK(contains(load({.positions = "f1+l2"}), "positions f1+l2 was given, but the adapter has f2+l2"));
  CHECK(contains(load({.tie = reft::Tie::all}), "tie all was given, but the adapter has group"));
  CHECK(contains(error_text([&] { reft::load_any_adapter(model, folder / "nothing"); }), "adapter_config.json"));
}

TEST_CASE("what reft does not know in a folder is refused by name") {
  const TemporaryFolder folder;
  const auto adapter = copy_of("loreft", folder), config = adapter / "config.json";
  const std::string key = "layer_0_comp_block_output_unit_pos_nunit_1#0", file = "intkey_" + key + ".bin";
  SECTION("another class") {
    edit(config, [](auto& json) { json["intervention_types"][0] = "<class 'mine.SubloreftIntervention'>"; });
    CHECK(contains(refusal(adapter), "intervention type \"<class 'mine.SubloreftIntervention'>\": expected one of pyreft's six classes"));
  }
  SECTION("linked interventions") {
    edit(config, [](auto& json) { json["representations"][2][9] = "a"; });
    CHECK(contains(refusal(adapter), "config.json: representations[2]: intervention_link_key = \"a\": expected null"));
  }
  SECTION("another unit") {
    edit(config, [](auto& json) { json["representations"][1][2] = "h.pos"; });
    CHECK(contains(refusal(adapter), "representations[1]: expected a component on single positions"));
  }
  SECTION("another number of fields") {
    edit(config, [](auto& json) { json["representations"][1] = {0, "block_output"}; });
    CHECK(contains(refusal(adapter), "representations[1]: expected a list of 13 or 14 fields"));
  }
  SECTION("another component") {
    edit(config, [](auto& json) { json["representations"][0][1] = "sense_network_output"; });
    CHECK(contains(refusal(adapter), "intkey_layer_0_comp_sense_network_output_unit_pos_nunit_1#0.bin is missing"));
  }
  SECTION("fewer types than rows") {
    edit(config, [](auto& json) { json["intervention_types"].erase(0); });
    CHECK(contains(refusal(adapter), "4 representations, but 3 intervention_types"));
  }
  SECTION("not JSON") {
    write_text(config, "{");
    CHECK(contains(refusal(adapter), "expected a list \"representations\""));
  }
  SECTION("a missing file") {
    std::filesystem::remove(adapter / file);
    CHECK(contains(refusal(adapter), "intkey_layer_0_comp_block_output_unit_pos_nunit_1#0.bin is missing, in any spelling"));
  }
  SECTION("a file that belongs to nothing") {
    std::filesystem::copy(adapter / file, adapter / "intkey_layer_0_comp_block_output_unit_pos_nunit_1#7.bin");
    CHECK(contains(refusal(adapter), "config.json does not know intkey_layer_0_comp_block_output_unit_pos_nunit_1#7.bin"));
  }
  SECTION("two spellings of one file") {
    std::filesystem::copy(adapter / file, adapter / "intkey_layer.0.comp.block_output.unit.pos.nunit.1#0.bin");
    CHECK(contains(refusal(adapter), "two files hold " + key));
  }
  SECTION("a damaged file") {
    std::string bytes = read_text(adapter / file);
    bytes[bytes.size() / 2] ^= 1;
    write_text(adapter / file, bytes);
    CHECK(contains(refusal(adapter), file));
  }
  SECTION("an R that is not orthonormal") {
    auto tensors = reft::load_torch_tensors(adapter / file);
    tensors["rotate_layer"] = tensors["rotate_layer"] * 1.1;
    reft::save_torch_tensors(adapter / file, tensors);
    CHECK(contains(refusal(adapter), "the rows of R are not orthonormal"));
    CHECK(contains(refusal(adapter), "give that type, as in --intervention noreft"));
    CHECK(refusal(adapter, {.type = "noreft"}) == "no error");
  }
  SECTION("tensors of other shapes, types and names") {
    const auto with = [&](const std::string& name, const torch::Tensor& tensor) {
      auto tensors = reft::load_torch_tensors(kGolden / "loreft" / file);
      tensors[name] = tensor;
      reft::save_torch_tensors(adapter / file, tensors);
      return refusal(adapter);
    };
    CHECK(contains(with("weight", torch::zeros({2, 24})), "tensor \"W\": expected shape [3, 24], got [2, 24]"));
    CHECK(contains(with("weight", torch::zeros({24})), "tensor weight: expected 2 dimensions of floats, got [24]"));
    CHECK(contains(with("weight", torch::zeros({3, 24}, torch::kInt64)), "expected 2 dimensions of floats"));
    CHECK(contains(with("rotate_layer", torch::zeros({0, 0})), "expected a rank in 1..0"));
    CHECK(contains(with("rotate_layer", torch::zeros({3, 24})), "expected a rank in 1..3"));
    CHECK(contains(with("mask", torch::zeros({2})), "tensor mask has no place in a loreft"));
  }
  SECTION("trained weights of the base that are not of its head") {
    reft::save_torch_tensors(adapter / "pytorch_model.bin", {{"model.norm.weight", torch::zeros({24})}});
    Model model(reft::load_causal_lm(kGolden / "base"));
    CHECK(contains(error_text([&] { reft::load_pyreft(model, adapter, {.positions = "f2+l2"}); }),
                   "model.norm.weight was trained with the interventions, but it is not of the base's head, which has no tensors"));
    CHECK(model.interventions().empty());
  }
  SECTION("no folder of interventions") { CHECK(contains(refusal(kGolden / "base"), "expected a pyreft folder, but it has no intkey_*.bin")); }
}

TEST_CASE("a trained classification head is read, kept in reft's folder and written again") {
  const TemporaryFolder folder;
  const auto adapter = copy_of("loreft", folder);
  auto config = reft::read_config(kGolden / "base");
  config.num_labels = 3;
  const auto fresh_model = [&] {
    reft::SequenceClassifier base(config);
    torch::NoGradGuard no_grad;
    for (torch::Tensor& parameter : base->parameters()) parameter.normal_(0.0, 0.02);
    return reft::ReftModel<reft::SequenceClassifier>(base);
  };
  const auto expected = reft::SafetensorsFile::open(kGolden / "classifier/expected.safetensors");
  const torch::Tensor head = reft::as_tensor(expected.at("score.weight"));
  std::filesystem::copy(kGolden / "classifier/pytorch_model.bin", adapter);

  auto model = fresh_model();
  const reft::AdapterInfo info = reft::load_pyreft(model, adapter, {.positions = "f2+l2"});
  CHECK(info.has_head);
  CHECK(reft::head_tensors(model.base()).at("score.weight").equal(head));
  reft::save_adapter(model, folder / "own", info);
  auto reloaded = fresh_model();
  CHECK(reft::load_adapter(reloaded, folder / "own").has_head);
  CHECK(reft::head_tensors(reloaded.base()).at("score.weight").equal(head));
  reft::write_pyreft(reft::as_pyreft(reloaded.interventions().attachments()), folder / "again", false, reft::head_tensors(reloaded.base()));
  CHECK(reft::read_pyreft_head(folder / "again").at("score.weight").equal(head));

  Model without(reft::load_causal_lm(kGolden / "base"));
  CHECK(contains(error_text([&] { reft::load_adapter(without, folder / "own"); }), "score.weight was trained with the interventions"));
  reft::save_torch_tensors(adapter / "pytorch_model.bin", {{"score.weight", torch::zeros({2, 24})}});
  auto other = fresh_model();
  CHECK(contains(error_text([&] { reft::load_pyreft(other, adapter, {.positions = "f2+l2"}); }), "score.weight: expected shape [3, 24], got [2, 24]"));
  CHECK(other.interventions().empty());
}

TEST_CASE("what pyreft cannot hold is said") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  model.attach<reft::NoReFT>({.layer = 0, .positions = "f2+l2", .phase = reft::Phase::every}, {.rank = 2, .dropout = 0.25, .dropout_on = reft::DropoutOn::edit, .activation = "gelu"});
  model.attach({std::make_shared<reft::LoReFT>(32, reft::LowRankOptions{.rank = 2}), {{.layer = 1}, {.layer = 1, .component = reft::Component::mlp_output}},
                reft::Positions::parse("all")});
  const auto twice = std::make_shared<reft::OrthoDiReFT>(32, reft::LowRankOptions{.rank = 2});
  model.attach({twice, {{.layer = 0, .component = reft::Component::mlp_output}}, reft::Positions::parse("f1")});
  model.attach({twice, {{.layer = 0, .component = reft::Component::mlp_output}}, reft::Positions::parse("l1")});
  const auto lost = reft::lost_in_pyreft(model.interventions().attachments(), {.base_model = "llama", .prompt_template = "alpaca"});
  const std::string text = fmt::format("{}", fmt::join(lost, "\n"));
  for (const char* part : {"positions f2+l2, tied by group", "positions all, tied by all", "position rule paper", "phase every", "activation gelu",
                           "dropout 0.25 on the edit", "sharing across sites", "one intervention attached more than once",
                           "W and b of ortho_direft in float32", "add_bias of noreft", "base model llama", "prompt template alpaca"}) {
    INFO(part);
    CHECK(contains(text, part));
  }
  CHECK(reft::as_pyreft(model.interventions().attachments()).size() == 6);
  const auto active = std::make_shared<reft::LoReFT>(32, reft::LowRankOptions{.rank = 2, .activation = "relu"});
  const TemporaryFolder folder;
  CHECK(contains(error_text([&] { reft::write_easysteer({{{{.layer = 0}, 0}, active}}, folder / "steer"); }), "a loreft without activation, got relu"));
  Model other(base);
  other.attach<reft::LoReFT>({.component = reft::Component::final_norm_output}, {.rank = 2});
  CHECK(contains(error_text([&] { reft::as_pyreft(other.interventions().attachments()); }), "final_norm_output: pyreft has no name for this place"));
}

TEST_CASE("an adapter that pyreft published is read") {
  const auto folder = reft::test::shared_path("assets/reft_checkpoints/llama32_1b_l8_l15_r2");
  if (!folder) return;
  const auto interventions = reft::read_pyreft(*folder);
  REQUIRE(interventions.size() == 4);
  CHECK(to_string(interventions[1].key) == "layer_15_comp_block_output_unit_pos_nunit_1#0");
  for (const auto& [key, intervention] : interventions) {
    CHECK(intervention->hidden_size() == 2048);
    CHECK(intervention->options()["rank"] == 2);
    CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
  }
}
