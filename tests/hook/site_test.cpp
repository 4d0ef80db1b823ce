#include "reft/hook/site.hpp"

#include <set>

#include "support/catch.hpp"

using reft::Component;
using reft::ConfigError;
using reft::parse_site;
using reft::Site;

TEST_CASE("every site's text parses back") {
  for (int i = 0; i < 15; ++i) {
    Site site{.component = static_cast<Component>(i)};
    if (!is_layerless(site.component)) site.layer = 7;
    if (site.component == Component::head_attention_value_output) site.head = 8;
    CAPTURE(to_string(site));
    REQUIRE(parse_site(to_string(site)) == site);
    REQUIRE(reft::parse_component(to_string(site.component)) == site.component);
  }
  REQUIRE(to_string(Site{.layer = 3}) == "layers.3.block_output");
  REQUIRE(to_string(parse_site("layers.7.head.8")) == "layers.7.head_attention_value_output.8");
  REQUIRE(to_string(parse_site("logits")) == "logits");
}

TEST_CASE("sites are ordered and usable as keys") {
  const std::set<Site> sites = {parse_site("layers.1.mlp_output"), Site{.layer = 1}, Site{.layer = 0},
                                Site{.layer = 1}};
  REQUIRE(sites.size() == 3);
  REQUIRE(sites.begin()->layer == 0);
}

TEST_CASE("malformed sites are refused with the fix") {
  const auto text_of = [](std::string_view text) -> std::string {
    try {
      parse_site(text);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  };
  REQUIRE(text_of("layers.x.block_output") ==
          "[reft::parse_site] \"layers.x.block_output\": expected layers.<layer>.<component>, "
          "layers.<layer>.head.<head>, embedding_output, final_norm_output or logits");
  for (auto text : {"layers.3", "layers..block_output", "layers.-1.block_output", "layers.99999999999.block_output",
                    "layer.3.block_output", "layers.3.head.x", "layers.3.head.-1", "layers.3.head.1.2"}) {
    CAPTURE(text);
    REQUIRE(text_of(text).find("expected layers.<layer>.<component>") != std::string::npos);
  }
  REQUIRE(text_of("layers.3.block_outptu").find("expected one of block_input, block_output, ") != std::string::npos);
  REQUIRE(text_of("").find("[reft::parse_component] \"\": expected one of ") == 0);
  REQUIRE(text_of("block_output") ==
          "[reft::check_site] block_output: expected a layer, as in \"layers.0.block_output\"");
  REQUIRE(text_of("layers.2.logits") ==
          "[reft::check_site] layers.2.logits: a model has one logits, so it takes no layer; write \"logits\"");
  REQUIRE(text_of("layers.2.head") ==
          "[reft::check_site] layers.2.head_attention_value_output: expected a head, as in \"layers.2.head.0\"");
  REQUIRE(text_of("layers.2.mlp_output.4") ==
          "[reft::check_site] layers.2.mlp_output.4: mlp_output has no heads; write \"layers.2.head.4\" for one "
          "head's output");
  REQUIRE_THROWS_WITH(check_site(Site{.layer = -2}),
                      "[reft::check_site] layers.-2.block_output: layers are counted from 0, got -2");
}
