#include "reft/generate/adapter_registry.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/generation.hpp"
#include "support/temporary_folder.hpp"

namespace {

using Names = std::vector<std::string>;
using reft::test::kPrompts;
using reft::test::model_with;

}  // namespace

TEST_CASE("a registry holds what was asked for last within its bound, and reads the rest again") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  std::map<std::string, std::vector<int64_t>> expected;
  const reft::GenerateOptions options{.max_new_tokens = 6, .use_end_tokens = false};
  int64_t bytes = 0;
  for (const std::string name : {"a", "b", "c"}) {
    auto model = model_with(base, "f1+l1", reft::Phase::prompt, static_cast<uint64_t>(name[0]));
    reft::save_adapter(model, folder / name, {"tiny", "alpaca"});
    expected[name] = reft::generate(model, {kPrompts[0]}, options)[0].tokens;
    bytes = reft::AdapterRegistry::bytes_of(*model.adapter());
  }
  reft::AdapterRegistry registry(base, 2 * bytes);
  for (const std::string name : {"a", "b", "c"}) registry.add(name, folder / name);
  CHECK(registry.num_bytes() == 0);
  const auto answer = [&](const std::string& name) {
    const std::vector<reft::GenerationRequest> requests{{kPrompts[0], registry.get(name).interventions}};
    return reft::generate(base, requests, options)[0].tokens;
  };
  const auto first = registry.get("a").interventions;
  CHECK(registry.get("a").info.prompt_template == "alpaca");
  CHECK(answer("b") == expected["b"]);
  CHECK(registry.held_names() == Names{"b", "a"});
  CHECK(answer("a") == expected["a"]);
  CHECK(registry.get("a").interventions == first);  // not read again
  CHECK(answer("c") == expected["c"]);
  CHECK(registry.held_names() == Names{"c", "a"});
  CHECK(registry.num_bytes() == 2 * bytes);
  CHECK(answer("b") == expected["b"]);
  CHECK(registry.held_names() == Names{"b", "c"});
  // Whoever holds a dropped adapter goes on with it.
  CHECK(reft::generate(base, std::vector<reft::GenerationRequest>{{kPrompts[0], first}}, options)[0].tokens == expected["a"]);
  // A name may be given to another folder.
  registry.add("b", folder / "c");
  CHECK(registry.held_names() == Names{"c"});
  CHECK(answer("b") == expected["c"]);
  CHECK(expected["b"] != expected["c"]);
}

TEST_CASE("a registry says what it does not have, and what is too large for it") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  auto model = model_with(base, "f1+l1", reft::Phase::prompt);
  reft::save_adapter(model, folder / "a");
  const int64_t bytes = reft::AdapterRegistry::bytes_of(*model.adapter());
  reft::AdapterRegistry registry(base, bytes - 1);
  registry.add("a", folder / "a");
  registry.add("gone", folder / "nowhere");
  CHECK(reft::test::error_text([&] { registry.get("x"); }) == "[reft::AdapterRegistry] \"x\": expected one of a, gone");
  CHECK(reft::test::error_text([&] { registry.get("a"); }) ==
        fmt::format("[reft::AdapterRegistry] \"a\": it has {} bytes of parameters, but the bound is {}", bytes, bytes - 1));
  CHECK(reft::test::error_text([&] { registry.get("gone"); }) != "no error");
  CHECK(registry.held_names().empty());
}
