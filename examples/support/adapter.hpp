#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "reft/checkpoint/any_adapter.hpp"
#include "support/command_line.hpp"

namespace reft::program {

/// --adapter, and what other people's adapters do not say. With a folder of our own the others must agree or be absent.
class AdapterFlags {
 public:
  void add_to(CLI::App& app) {
    const char* group = "Adapter";
    auto* adapter = app.add_option("--adapter", folder_, "adapter to attach: reft's, pyreft's, of the adapters package, or control vectors")->group(group);
    app.add_option("--positions", positions_, "where a pyreft adapter acts, \"f1+l1\"; our own says so itself")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { Positions::parse(text); }));
    app.add_option("--tie", tie_, "who shares an intervention in a pyreft adapter: all or group")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { parse_tie(text); }));
    app.add_option("--intervention", type_, "noreft or direft, of an adapter that does not tell")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& name) { make_intervention(name, 8, {{"rank", 1}}); }));
  }

  /// @return what the adapter remembers; nothing without one.
  template <class Base>
  AdapterInfo attach(ReftModel<Base>& model) const {
    if (folder_.empty()) return {};
    PyreftOptions options{.positions = positions_, .type = type_};
    if (!tie_.empty()) options.tie = parse_tie(tie_);
    return load_any_adapter(model, folder_, options);
  }

 private:
  std::string folder_, positions_, tie_, type_;
};

}  // namespace reft::program
