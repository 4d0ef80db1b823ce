#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "reft/checkpoint/any_adapter.hpp"
#include "support/command_line.hpp"

namespace reft::program {

/// --adapter, and what a pyreft folder does not say. With a folder of our own the others must agree or be absent.
class AdapterFlags {
 public:
  /// @param several  whether --adapter may be given more than once.
  void add_to(CLI::App& app, bool several = false) {
    const char* group = "Adapter";
    auto* adapter = app.add_option("--adapter", folders_, several ? "adapter folder, reft's or pyreft's, or none; given again: each prompt is answered with each"
                                                                  : "adapter folder, reft's or pyreft's, to attach")->group(group);
    adapter->type_name("TEXT")->allow_extra_args(false);
    if (!several) adapter->expected(1);
    app.add_option("--positions", positions_, "where a pyreft adapter acts, \"f1+l1\"; our own says so itself")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { Positions::parse(text); }));
    app.add_option("--tie", tie_, "who shares an intervention in a pyreft adapter: all or group")->needs(adapter)->group(group)
        ->check(checked_by([](const std::string& text) { parse_tie(text); }));
  }

  const std::vector<std::string>& folders() const { return folders_; }

  PyreftOptions options() const {
    PyreftOptions options{.positions = positions_};
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
  std::string positions_, tie_;
};

}  // namespace reft::program
