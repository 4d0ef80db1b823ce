#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"

namespace reft::program {

/// One `error: …` line on standard error. Only the first line of the text is kept: others are a stack of addresses.
inline void print_error(std::string_view text) {
  const std::string line(text.substr(0, text.find('\n')));
  std::fprintf(stderr, "error: %s\n", line.c_str());
}

/// @throws CLI::ValidationError for a number that is none, or endless: comparisons with a bound let the first pass.
inline void check_finite(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_type_name().starts_with("FLOAT")) continue;
    for (const std::string& text : option->results()) {
      if (!std::isfinite(std::strtod(text.c_str(), nullptr))) throw CLI::ValidationError(option->get_name(), "expected a finite number, got " + text);
    }
  }
}

/// Parses the command line and runs the program.
/// @return what `body` returns; 0 after --help; 2 for a usage error; 1 for any exception. Errors are one line.
inline int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
    check_finite(app);
  } catch (const CLI::Success&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    print_error(std::string(error.what()) + "; --help lists the flags");
    return 2;
  }
  try {
    return body();
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
}

/// A flag's text is good if `parse` does not throw a reft::Error for it.
inline std::function<std::string(const std::string&)> checked_by(std::function<void(const std::string&)> parse) {
  return [parse = std::move(parse)](const std::string& text) -> std::string {
    try {
      parse(text);
      return {};
    } catch (const Error& error) {
      return error.what();
    }
  };
}

/// "1,2,3" as ids.   @throws ConfigError.
inline std::vector<int64_t> parse_tokens(std::string_view text) {
  std::vector<int64_t> tokens;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(',', start), text.size());
    const auto token = detail::parse_integer<int64_t>(text.substr(start, end - start));
    if (!token || *token < 0) fail<ConfigError>("parse_tokens", "\"{}\": expected token ids joined by ','", text);
    tokens.push_back(*token);
    start = end + 1;
  }
  return tokens;
}

/// Every flag with what it was given, or its default; flags without either are left out.
inline std::vector<std::pair<std::string, std::string>> configuration(const CLI::App& app) {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const CLI::Option* option : app.get_options()) {
    std::string value = option->get_default_str();
    if (option->count() > 0) value = fmt::format("{}", fmt::join(option->results(), ", "));
    if (!value.empty() && option->get_name() != "--help") settings.emplace_back(option->get_name(), value);
  }
  return settings;
}

}  // namespace reft::program
