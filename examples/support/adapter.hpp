#pragma once

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "reft/checkpoint/any_adapter.hpp"
#include "support/command_line.hpp"

namespace reft::program {

/// --adapter, and what other people's adapters do not say. With a folder of our own the others must agree or be absent.
class AdapterFlags {
 public:
  /// @param several  whether --adapter may be given more than once.
  void add_to(CLI::App& app, bool several = false) {
    const char* group = "Adapter";
    const char* formats = "reft's, pyreft's, of the adapters package, or control vectors";
    auto* adapter = app.add_option("--adapter", folders_, several ? fmt::format("adapter: {}; or none. Given again: each prompt is answered with each", formats)
                                                                  : fmt::format("adapter to attach: {}", formats))->group(group);
    adapter->type_name("TEXT")->allow_extra_args(false);
    if (!several) adapter->expected(1);
    app.add_option("--positions", positions_, "where a pyreft adapter acts, \"f1+l1\"; our own says so itself")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { Positions::parse(text); }));
    app.add_option("--tie", tie_, "who shares an intervention in a pyreft adapter: all or group")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { parse_tie(text); }));
    app.add_option("--intervention", type_, "noreft or direft, of an adapter that does not tell")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& name) { make_intervention(name, 8, {{"rank", 1}}); }));
  }

  const std::vector<std::string>& folders() const { return folders_; }

  PyreftOptions options() const {
    PyreftOptions options{.positions = positions_, .type = type_};
    if (!tie_.empty()) options.tie = parse_tie(tie_);
    return options;
  }

  /// @return what the adapter remembers; nothing without one.
  template <class Base>
  AdapterInfo attach(ReftModel<Base>& model) const {
    return folders_.empty() ? AdapterInfo{} : load_any_adapter(model, folders_.front(), options());
  }

 private:
  std::vector<std::string> folders_;
  std::string positions_, tie_, type_;
};

}  // namespace reft::program
