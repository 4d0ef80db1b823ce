// Rewrites an adapter folder in another format, or dumps its matrices.
#include "reft/checkpoint/any_adapter.hpp"
#include "reft/checkpoint/pyreft_writer.hpp"
#include "reft/model/config_json.hpp"
#include "support/program.hpp"

namespace {

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

  int64_t num_layers() const { return num_layers_; }
  int64_t width(const reft::Site& site) const {
    const auto found = widths_.find(site);
    return found == widths_.end() ? hidden_size_ : found->second;
  }
  reft::HookPoint& hook_point(const reft::Site& site) const { reft::fail<reft::Error>("convert", "{}: nothing runs here", to_string(site)); }

 private:
  int64_t num_layers_, hidden_size_;
  std::map<reft::Site, int64_t> widths_;
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
  return shape;
}

/// The shape of the base in a model folder; a pyreft folder says nothing of it.
BaseShape shape_of_base(const Settings& settings) {
  if (settings.base.empty()) {
    reft::fail<reft::ConfigError>("convert", "{}: a pyreft folder does not say what base it belongs to; give --base", settings.adapter);
  }
  const reft::TransformerConfig config = reft::read_config(settings.base);
  const auto shape = std::make_shared<BaseShapeImpl>(config.num_hidden_layers, config.hidden_size);
  for (const auto& [key, intervention] : reft::read_pyreft(settings.adapter, settings.options)) {
    shape->set_width(key.site, intervention->hidden_size());
  }
  return shape;
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

void write_reft(const Settings& settings, bool from_pyreft) {
  Model model(from_pyreft ? shape_of_base(settings) : shape_of_adapter(settings.adapter));
  reft::AdapterInfo info = reft::load_any_adapter(model, settings.adapter, settings.options);
  if (from_pyreft) info.base_model = settings.base;
  reft::save_adapter(model, settings.output, info, settings.overwrite);
  fmt::print("{}: {} interventions\n", settings.output, model.interventions().attachments().size());
  if (!from_pyreft) return;
  report("taken, as pyreft stores none", {"activation " + settings.options.activation, "dropout 0", "phase prompt", "position rule pyreft"});
}

/// Dumps, or writes as pyreft.
void write_pyreft(const Settings& settings, bool from_pyreft) {
  std::vector<reft::PyreftIntervention> interventions;
  std::vector<std::string> lost;
  if (from_pyreft) {
    interventions = reft::read_pyreft(settings.adapter, settings.options);
  } else {
    Model model(shape_of_adapter(settings.adapter));
    const reft::AdapterInfo info = reft::load_any_adapter(model, settings.adapter, settings.options);
    interventions = reft::as_pyreft(model.interventions().attachments());
    lost = reft::lost_in_pyreft(model.interventions().attachments(), info);
  }
  if (!settings.dump.empty()) return write_dump(interventions, settings.dump);
  reft::write_pyreft(interventions, settings.output, settings.overwrite);
  fmt::print("{}: {} interventions\n", settings.output, interventions.size());
  report("not in a pyreft folder", lost);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Converts an adapter between reft's folder and pyreft's, or dumps its matrices; says what the new format cannot hold.");
  Settings settings;
  reft::program::Common common;
  std::string tie;
  app.add_option("adapter", settings.adapter, "adapter folder, reft's or pyreft's")->required();
  auto* output = app.add_option("output", settings.output, "folder to write");
  auto* to = app.add_option("--to", settings.to, "format to write: pyreft or reft")->check(CLI::IsMember({"pyreft", "reft"}))->needs(output);
  auto* dump = app.add_option("--dump", settings.dump, "safetensors file for R, W, b, … of every intervention, dense")->excludes(to)->excludes(output);
  app.add_flag("--overwrite", settings.overwrite, "replace what is in the output folder");
  const char* group = "What a pyreft folder does not say";
  app.add_option("--positions", settings.options.positions, "f<n>, l<n>, all, an index or a range, joined by '+'")->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::Positions::parse(text); }));
  app.add_option("--tie", tie, "who shares an intervention: all positions, each group, or no position")->group(group)
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_tie(text); }));
  app.add_option("--base", settings.base, "model folder of the base")->group(group);
  app.add_option("--intervention", settings.options.type, "of a trainer's folder, where the tensors do not tell")->group(group)
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
    const bool from_pyreft =
        !std::filesystem::exists(std::filesystem::path(settings.adapter) / reft::kAdapterConfigName) && reft::is_pyreft_folder(settings.adapter);
    if (settings.to == "reft") write_reft(settings, from_pyreft);
    else write_pyreft(settings, from_pyreft);
    return 0;
  });
}
