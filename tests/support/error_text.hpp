#pragma once

#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft::test {

/// The text of the reft::Error that `call()` throws; "no error" if it throws none.
template <class Call>
std::string error_text(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace reft::test
