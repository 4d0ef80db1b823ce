#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/mapped_file.hpp"

namespace reft {

/// Where a row stands in its file, for error texts: "data.jsonl: line 3" or "data.json: row 3", counted from 1.
struct RowPlace {
  const std::filesystem::path& path;
  std::string_view unit;
  int64_t number;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<DataError>("read_examples", "{}: {} {}: {}", path.string(), unit, number, fmt::format(message, std::forward<Args>(args)...));
  }
};

namespace detail {

/// "line 3, column 5: syntax error …": what the parser found wrong, without what it last read, which may be long.
inline std::string parse_problem(const nlohmann::json::exception& error) {
  std::string_view text = error.what();
  text.remove_prefix(std::min(text.find("] ") + 2, text.size()));
  constexpr std::string_view kPrefix = "parse error at ";
  if (text.starts_with(kPrefix)) text.remove_prefix(kPrefix.size());
  constexpr std::size_t kLongest = 200;
  return std::string(text.substr(0, std::min(text.find("; last read: "), kLongest)));
}

inline constexpr std::string_view kBlank = " \t\r\n";

/// Calls `visit(text)` for every element of a JSON list that is known to be valid.
template <class Visit>
void for_each_element(std::string_view list, Visit&& visit) {
  int64_t depth = 0;
  bool in_string = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const char c = list[i];
    if (in_string) {
      i += c == '\\';  // the character behind it is part of the string
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth == 1) begin = i + 1;
    } else if ((c == ']' || c == '}') ? --depth == 0 : (c == ',' && depth == 1)) {
      const auto element = list.substr(begin, i - begin);
      // Only an empty list has an empty element.
      if (element.find_first_not_of(kBlank) != std::string_view::npos) visit(element);
      begin = i + 1;
    }
  }
}

}  // namespace detail

/// The rows of a data file: a JSON list's elements, or lines (JSON Lines, TSV, text; blank lines are no rows). Whether JSON
/// is a list or lines shows in its first character, not in its name. The file is mapped and only the places of its rows
/// are kept (24 bytes each), so it may be larger than memory.
class RowFile {
 public:
  /// @throws DataError for a missing or empty file, or a malformed JSON list.
  static RowFile open_json(const std::filesystem::path& path) { return RowFile(path, /*json=*/true); }
  static RowFile open_lines(const std::filesystem::path& path) { return RowFile(path, /*json=*/false); }

  int64_t size() const { return std::ssize(rows_); }
  const std::filesystem::path& path() const { return file_->path(); }
  std::string_view bytes() const { return file_->text(); }

  RowPlace place(int64_t index) const { return {file_->path(), unit_, rows_.at(static_cast<std::size_t>(index)).number}; }
  std::string_view text(int64_t index) const { return rows_.at(static_cast<std::size_t>(index)).text; }

  /// Keys keep their order.   @throws DataError naming the row.
  nlohmann::ordered_json json(int64_t index) const {
    try {
      return nlohmann::ordered_json::parse(text(index));
    } catch (const nlohmann::json::exception& error) {
      std::string problem = detail::parse_problem(error);
      if (problem.starts_with("line 1, ")) problem.erase(0, 8);  // the parser saw this line alone
      place(index).refuse("not JSON: {}", problem);
    }
  }

 private:
  struct Row {
    std::string_view text;
    int64_t number;  // from 1; of a line, blank ones counted too
  };

  RowFile(const std::filesystem::path& path, bool json) {
    try {
      file_ = MappedFile::open(path);
    } catch (const CheckpointError& error) {
      throw DataError(error.what());
    }
    std::string_view text = file_->text();
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    const auto first = text.find_first_not_of(detail::kBlank);
    if (first == std::string_view::npos) fail<DataError>("read_examples", "{}: the file is empty", path.string());
    if (json && text[first] == '[') {
      index_list(text);
    } else {
      index_lines(text);
    }
  }

  void index_list(std::string_view text) {
    unit_ = "row";
    if (!nlohmann::json::accept(text)) {
      try {
        const auto never = nlohmann::json::parse(text);  // throws, and so says what is wrong
      } catch (const nlohmann::json::exception& error) {
        fail<DataError>("read_examples", "{}: not JSON: {}", path().string(), detail::parse_problem(error));
      }
    }
    detail::for_each_element(text, [&](std::string_view element) { rows_.push_back({element, size() + 1}); });
    if (rows_.empty()) fail<DataError>("read_examples", "{}: the list is empty", path().string());
  }

  void index_lines(std::string_view text) {
    for (int64_t number = 1; !text.empty(); ++number) {
      const auto end = std::min(text.find('\n'), text.size());
      auto line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.find_first_not_of(detail::kBlank) != std::string_view::npos) rows_.push_back({line, number});
    }
  }

  std::shared_ptr<const MappedFile> file_;
  std::string_view unit_ = "line";
  std::vector<Row> rows_;
};

}  // namespace reft
