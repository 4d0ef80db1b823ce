#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <string_view>
#include <utility>

namespace reft {

/// Every exception this library throws. The text is `[reft::function] what was expected, what was got`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A configuration that cannot be meant: unknown names, layers out of range, overlapping positions.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A tensor whose shape does not fit.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A model, adapter or training-state file that is missing, damaged, hostile or of another model.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

/// Training or evaluation data that cannot be used.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A tokenizer file that is missing or uses an unsupported construct, or text it cannot encode.
class TokenizerError : public Error {
 public:
  using Error::Error;
};

/// Throws `Exception` with the text `[reft::function] message`.
template <class Exception, class... Args>
[[noreturn]] void fail(std::string_view function, fmt::format_string<Args...> message, Args&&... args) {
  throw Exception(fmt::format("[reft::{}] {}", function, fmt::format(message, std::forward<Args>(args)...)));
}

}  // namespace reft
