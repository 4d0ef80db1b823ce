#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "reft/error.hpp"
#include "reft/io/mapped_file.hpp"

namespace reft::detail {

/// Where a row stands in its file, for error texts: "data.jsonl: line 3" or "data.json: row 3", counted from 1.
struct RowPlace {
  const std::filesystem::path& path;
  std::string_view unit;
  int64_t number;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<DataError>("read_examples", "{}: {} {}: {}", path.string(), unit, number,
                    fmt::format(message, std::forward<Args>(args)...));
  }
};

/// "line 3, column 5: syntax error …": what the parser found wrong, without what it last read, which may be long.
inline std::string parse_problem(const nlohmann::json::exception& error) {
  std::string_view text = error.what();
  text.remove_prefix(std::min(text.find("] ") + 2, text.size()));
  constexpr std::string_view kPrefix = "parse error at ";
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  constexpr std::size_t kLongest = 200;
  return std::string(text.substr(0, std::min(text.find("; last read: "), kLongest)));
}

/// Calls `visit(json, place)` for every row of a JSON list or of a JSON Lines file; which of the two it is shows in its
/// first character, not in its name. Blank lines are skipped.
/// @throws DataError for a missing, empty or malformed file.
template <class Visit>
void for_each_row(const std::filesystem::path& path, Visit&& visit) {
  const auto file = [&] {
    try {
      return MappedFile::open(path);
    } catch (const CheckpointError& error) {
      throw DataError(error.what());
    }
  }();
  std::string_view text = file->text();
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) fail<DataError>("read_examples", "{}: the file is empty", path.string());
  int64_t number = 0;
  if (text[first] == '[') {
    nlohmann::json rows;
    try {
      rows = nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception& error) {
      fail<DataError>("read_examples", "{}: not JSON: {}", path.string(), parse_problem(error));
    }
    for (const auto& row : rows) visit(row, RowPlace{path, "row", ++number});
    return;
  }
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const RowPlace place{path, "line", ++number};
    if (line.find_first_not_of(kBlank) == std::string_view::npos) continue;
    nlohmann::json row;
    try {
      row = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
      std::string problem = parse_problem(error);
      if (problem.starts_with("line 1, ")) problem.erase(0, 8);  // the parser saw this line alone
      place.refuse("not JSON: {}", problem);
    }
    visit(row, place);
  }
}

}  // namespace reft::detail
