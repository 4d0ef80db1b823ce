// Types that miss one thing each of the concept `Intervention`. Each "expect" must be among the compiler's errors.
#include <reft/intervention/intervention.hpp>

namespace {

struct Methods : reft::InterventionBase {
  torch::Tensor forward(const torch::Tensor& x) override { return x; }
  int64_t hidden_size() const override { return 4; }
  std::string_view type() const override { return "mine"; }
  nlohmann::json options() const override { return {}; }
  std::map<std::string, torch::Tensor> state() const override { return {}; }
  void load_state(const std::map<std::string, torch::Tensor>&) override {}
};

// expect: an intervention must derive publicly from reft::InterventionBase and override forward
struct NoBase {
  static constexpr std::string_view kTypeName = "no_base";
  struct Options {};
  NoBase(int64_t, const Options&) {}
};

// expect: an intervention needs a name for checkpoints and the command line: add `static constexpr std::string_view
struct NoName : Methods {
  struct Options {};
  NoName(int64_t, const Options&) {}
};

// expect: an intervention needs a struct of options with defaults: add `struct Options
struct NoOptions : Methods {
  static constexpr std::string_view kTypeName = "no_options";
};

// expect: an intervention must be constructible as T(int64_t hidden_size, const T::Options&)
struct NoConstructor : Methods {
  static constexpr std::string_view kTypeName = "no_constructor";
  struct Options {};
};

struct Complete : Methods {
  static constexpr std::string_view kTypeName = "complete";
  struct Options {};
  Complete(int64_t, const Options&) {}
};

}  // namespace

static_assert(!reft::Intervention<NoBase> && !reft::Intervention<NoName> && !reft::Intervention<NoOptions> &&
              !reft::Intervention<NoConstructor> && reft::Intervention<Complete>);

void check() {
  reft::require_intervention<Complete>();
#ifdef WRONG
  reft::require_intervention<NoBase>();
  reft::require_intervention<NoName>();
  reft::require_intervention<NoOptions>();
  reft::require_intervention<NoConstructor>();
#endif
}
