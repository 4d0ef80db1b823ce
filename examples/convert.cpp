// Rewrites an adapter in another format, or dumps its matrices.
#include "reft/checkpoint/any_adapter.hpp"
#include "reft/checkpoint/easysteer.hpp"
#include "reft/model/config_json.hpp"
#include "support/program.hpp"

namespace {

using reft::AdapterFormat;

struct Settings {
  std::string adapter, output, to, dump, base;
  reft::PyreftOptions options;
  bool overwrite = false;
};

/// A base of which only the shape is known. That is enough to read and write adapters; nothing runs on it.
class BaseShapeImpl : public torch::nn::Module {
 public:
  BaseShapeImpl(int64_t num_layers, int64_t hidden_size) : num_layers_(num_layers), hidden_size_(hidden_size) {
    register_parameter("none", torch::empty({0}));  // a ReftModel asks it for the device
  }

  /// What the interventions there are made for, at places that need not be as wide as the residual stream.
  void set_width(const reft::Site& site, int64_t width) {
    using reft::Component;
    for (const Component own : {Component::attention_value_output, Component::head_attention_value_output, Component::mlp_activation,
                                Component::query_output, Component::key_output, Component::value_output, Component::logits}) {
      if (site.component == own) widths_[site] = width;
    }
  }

  /// A head with room for these tensors.
  void set_head(const std::map<std::string, torch::Tensor>& tensors) {
    for (const auto& [name, tensor] : tensors) head_.emplace_back(name, torch::empty_like(tensor));
  }

  std::vector<reft::WeightSlot> head_slots() const { return head_; }
  int64_t num_layers() const { return num_layers_; }
  int64_t width(const reft::Site& site) const {
    const auto found = widths_.find(site);
    return found == widths_.end() ? hidden_size_ : found->second;
  }
  reft::HookPoint& hook_point(const reft::Site& site) const { reft::fail<reft::Error>("convert", "{}: nothing runs here", to_string(site)); }

 private:
  int64_t num_layers_, hidden_size_;
  std::map<reft::Site, int64_t> widths_;
  std::vector<reft::WeightSlot> head_;
};

using BaseShape = std::shared_ptr<BaseShapeImpl>;
using Model = reft::ReftModel<BaseShape>;

/// The shape of the base that one of reft's own adapters was made for, as the adapter says.
BaseShape shape_of_adapter(const std::filesystem::path& folder) {
  const reft::AdapterConfig config = reft::read_adapter_config(folder);
  const auto shape = std::make_shared<BaseShapeImpl>(config.num_layers, config.hidden_size);
  const auto file = reft::SafetensorsFile::open(folder / reft::kAdapterTensorsName);
  for (size_t i = 0; i < config.interventions.size(); ++i) {
    const auto R = file.tensors().find(reft::detail::tensor_prefix(i) + "R");
    if (R == file.tensors().end() || R->second.shape.size() != 2) continue;  // load_adapter says what is wrong with it
    for (const reft::Site& site : config.interventions[i].sites) shape->set_width(site, R->second.shape[1]);
  }
  shape->set_head(reft::read_adapter_head(file));
  return shape;
}

/// The shape of the base in a model folder; other formats say nothing of it.
BaseShape shape_of_base(const Settings& settings, AdapterFormat format) {
  if (settings.base.empty()) {
    reft::fail<reft::ConfigError>("convert", "{}: {} does not say what base it belongs to; give --base", settings.adapter, to_string(format));
  }
  const reft::TransformerConfig config = reft::read_config(settings.base);
  const auto shape = std::make_shared<BaseShapeImpl>(config.num_hidden_layers, config.hidden_size);
  if (format != AdapterFormat::pyreft) return shape;
  for (const auto& [key, intervention] : reft::read_pyreft(settings.adapter, settings.options)) {
    shape->set_width(key.site, intervention->hidden_size());
  }
  shape->set_head(reft::read_pyreft_head(settings.adapter));
  return shape;
}

/// What the adapters package and llama.cpp call the base.
reft::AdapterHubBase names_of_base(const Settings& settings) {
  if (settings.base.empty()) reft::fail<reft::ConfigError>("convert", "--to {} names the base's modules; give --base", settings.to);
  const reft::TransformerConfig config = reft::read_config(settings.base);
  const auto file = reft::MappedFile::open(std::filesystem::path(settings.base) / "config.json");
  const auto json = nlohmann::json::parse(file->text());
  return {fmt::format("{}{}", config.weights.base, config.weights.layers), json.at("model_type"), json.at("architectures").at(0)};
}

void report(const std::string& what, const std::vector<std::string>& sentences) {
  for (const std::string& sentence : sentences) fmt::print("{}: {}\n", what, sentence);
}

void write_dump(const std::vector<reft::PyreftIntervention>& interventions, const std::string& path) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [key, intervention] : interventions) {
    for (const auto& [name, tensor] : reft::dense_pyreft_tensors(*intervention)) tensors.emplace_back(to_string(key) + "/" + name, tensor);
  }
  reft::save_tensors(path, tensors, {{"format", "pt"}});
  fmt::print("{}: {} tensors of {} interventions\n", path, tensors.size(), interventions.size());
}

/// Of formats that hold interventions only.
void report_lost_head(const std::map<std::string, torch::Tensor>& head) {
  if (!head.empty()) report("lost", {"the trained head"});
}

/// Of what a pyreft folder has no place for, where one is the source and the output.
void report_unused(const reft::PyreftOptions& given) {
  std::vector<std::string> unused;
  if (!given.positions.empty()) unused.push_back("positions " + given.positions);
  if (given.tie) unused.push_back(fmt::format("tie {}", to_string(*given.tie)));
  if (given.activation != "linear") unused.push_back("activation " + given.activation);
  report("given, but not stored", unused);
}

/// What needs no base: a pyreft folder to one again, or its matrices.
void rewrite_pyreft(const Settings& settings) {
  const auto interventions = reft::read_pyreft(settings.adapter, settings.options);
  if (!settings.dump.empty()) {
    write_dump(interventions, settings.dump);
    return report_unused(settings.options);
  }
  const auto head = reft::read_pyreft_head(settings.adapter);
  if (settings.to == "easysteer") {
    reft::write_easysteer(interventions, settings.output, settings.overwrite);
    report_lost_head(head);
  } else {
    reft::write_pyreft(interventions, settings.output, settings.overwrite, head);
  }
  report_unused(settings.options);
  fmt::print("{}: {} interventions\n", settings.output, interventions.size());
}

void write_reft(const Settings& settings, const Model& model, reft::AdapterInfo info, AdapterFormat format) {
  if (format != AdapterFormat::reft) info.base_model = settings.base;
  reft::save_adapter(model, settings.output, info, settings.overwrite);
  if (format != AdapterFormat::pyreft) return;
  report("taken, as pyreft stores none", {"activation " + settings.options.activation, "dropout 0", "phase prompt",
                                          fmt::format("position rule {}", to_string(settings.options.position_rule))});
}

void write_foreign(const Settings& settings, const Model& model, const reft::AdapterInfo& info) {
  const auto& attachments = model.interventions().attachments();
  const auto head = info.has_head ? reft::head_tensors(model.base()) : std::map<std::string, torch::Tensor>{};
  if (settings.to == "pyreft") {
    reft::write_pyreft(reft::as_pyreft(attachments), settings.output, settings.overwrite, head);
    return report("not in a pyreft folder", reft::lost_in_pyreft(attachments, info));
  }
  if (settings.to == "easysteer") {
    reft::write_easysteer(reft::as_pyreft(attachments), settings.output, settings.overwrite);
    report_lost_head(head);
    return report("not for EasySteer", reft::lost_in_pyreft(attachments, info));
  }
  const reft::AdapterHubBase base = names_of_base(settings);
  if (settings.to == "adapterhub") {
    reft::write_adapterhub(attachments, model.base()->num_layers(), base, settings.output, settings.overwrite);
    report("not in a folder of the adapters package", reft::lost_in_adapterhub(attachments));
  } else {
    if (std::filesystem::exists(settings.output) && !settings.overwrite) {
      reft::fail<reft::ConfigError>("convert", "{}: the file exists; give another, or --overwrite", settings.output);
    }
    reft::write_control_vectors(reft::as_control_vectors(attachments), settings.output, base.model_type);
    report("not in control vectors", reft::lost_in_control_vectors(attachments));
  }
  report_lost_head(head);
}

void convert(const Settings& settings) {
  const AdapterFormat format = reft::adapter_format(settings.adapter);
  const bool to_pyreft = !settings.dump.empty() || settings.to == "pyreft" || settings.to == "easysteer";
  if (format == AdapterFormat::pyreft && to_pyreft) return rewrite_pyreft(settings);
  Model model(format == AdapterFormat::reft ? shape_of_adapter(settings.adapter) : shape_of_base(settings, format));
  const reft::AdapterInfo info = reft::load_any_adapter(model, settings.adapter, settings.options);
  if (!settings.dump.empty()) return write_dump(reft::as_pyreft(model.interventions().attachments()), settings.dump);
  if (settings.to == "reft") write_reft(settings, model, info, format);
  else write_foreign(settings, model, info);
  fmt::print("{}: {} interventions\n", settings.output, model.interventions().attachments().size());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Converts an adapter between reft's folder and other formats, or dumps its matrices; says what the new format cannot hold.");
  Settings settings;
  reft::program::Common common;
  std::string tie, rule = "pyreft";
  app.add_option("adapter", settings.adapter, "adapter: a folder of reft, pyreft or the adapters package, or a GGUF file of control vectors")->required();
  auto* output = app.add_option("output", settings.output, "folder to write; for gguf a file");
  auto* to = app.add_option("--to", settings.to, "format to write: reft, pyreft, adapterhub (the adapters package), easysteer, gguf (control vectors)")
                 ->check(CLI::IsMember({"pyreft", "reft", "adapterhub", "easysteer", "gguf"}))->needs(output);
  auto* dump = app.add_option("--dump", settings.dump, "safetensors file for R, W, b, … of every intervention, dense")->excludes(to)->excludes(output);
  app.add_flag("--overwrite", settings.overwrite, "replace what is in the output folder");
  const char* group = "What other formats do not say";
  app.add_option("--positions", settings.options.positions, "f<n>, l<n>, all, an index or a range, joined by '+'")->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::Positions::parse(text); }));
  app.add_option("--tie", tie, "who shares an intervention: all positions, each group, or no position")->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_tie(text); }));
  app.add_option("--position-rule", rule, "how pyreft laid positions out: pyreft, or pyreft_shifted for its supervised data set")->capture_default_str()->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_position_rule(text); }));
  app.add_option("--base", settings.base, "model folder of the base")->group(group);
  app.add_option("--intervention", settings.options.type, "its type, where the tensors do not tell")->group(group)
      ->check(reft::program::checked_by([](const std::string& name) { reft::make_intervention(name, 8, {{"rank", 1}}); }));
  app.add_option("--activation", settings.options.activation, "applied to W h + b")->capture_default_str()->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::activation_function(text); }));
  common.add_to(app);
  app.callback([&] {
    if (to->count() + dump->count() == 0) throw CLI::RequiredError("either --to with an output folder, or --dump");
  });
  return reft::program::run(app, argc, argv, [&] {
    common.apply();
    if (!tie.empty()) settings.options.tie = reft::parse_tie(tie);
    settings.options.position_rule = reft::parse_position_rule(rule);
    convert(settings);
    return 0;
  });
}
