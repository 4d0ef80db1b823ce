#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/data/readers.hpp"
#include "reft/hook/parse_integer.hpp"

namespace reft {

/// The names of the columns, or keys, that hold the texts and the label; an empty one is found by the names in use:
/// text: sentence, text, sentence1, premise, question1; second text: sentence2, hypothesis, question2; label: label.
struct LabelledColumns {
  std::string text, second_text, label;
};

/// What is wrong with a label, or an empty text.
using LabelCheck = std::function<std::string(const std::string& label)>;

namespace detail {

inline std::vector<std::string_view> tsv_fields(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t start = 0; start <= line.size();) {
    const auto end = std::min(line.find('\t', start), line.size());
    fields.push_back(line.substr(start, end - start));
    start = end + 1;
  }
  return fields;
}

/// Which of `names` a row has: the one that was asked for, or the first of the names in use.
template <class Names>
std::optional<std::string> find_column(const Names& names, const std::string& wanted, std::initializer_list<const char*> usual) {
  const auto has = [&](std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  if (!wanted.empty()) return has(wanted) ? std::optional(wanted) : std::nullopt;
  for (const char* name : usual) {
    if (has(name)) return name;
  }
  return std::nullopt;
}

/// The columns of a file that has `names`.
template <class Names>
LabelledColumns find_columns(const Names& names, const LabelledColumns& wanted, const RowPlace& place) {
  const auto text = find_column(names, wanted.text, {"sentence", "text", "sentence1", "premise", "question1"});
  const auto second = find_column(names, wanted.second_text, {"sentence2", "hypothesis", "question2"});
  const auto label = find_column(names, wanted.label, {"label"});
  const auto require = [&](bool found, const char* what, const std::string& name) {
    if (!found)
      place.refuse("no column for the {}{}; there are [{}]", what, name.empty() ? "" : ", \"" + name + "\"", fmt::join(names, ", "));
  };
  require(text.has_value(), "text", wanted.text);
  require(label.has_value(), "label", wanted.label);
  require(second.has_value() || wanted.second_text.empty(), "second text", wanted.second_text);
  return {*text, second.value_or(""), *label};
}

inline void check_label(const LabelCheck& check, const std::string& label, const RowPlace& place) {
  const std::string problem = check ? check(label) : std::string();
  if (!problem.empty()) place.refuse("{}", problem);
}

inline std::vector<LabelledExample> read_labelled_tsv(const RowFile& file, const LabelledColumns& wanted, const LabelCheck& check) {
  const auto names = tsv_fields(file.text(0));
  const LabelledColumns columns = find_columns(names, wanted, file.place(0));
  const auto index_of = [&](const std::string& name) { return std::find(names.begin(), names.end(), name) - names.begin(); };
  std::vector<LabelledExample> examples;
  for (int64_t i = 1; i < file.size(); ++i) {
    const auto fields = tsv_fields(file.text(i));
    if (fields.size() != names.size()) file.place(i).refuse("expected {} fields, got {}", names.size(), fields.size());
    const auto field = [&](const std::string& name) {
      return name.empty() ? std::string() : std::string(fields[static_cast<std::size_t>(index_of(name))]);
    };
    examples.push_back({field(columns.text), field(columns.second_text), field(columns.label)});
    if (examples.back().label.empty()) file.place(i).refuse("the label is empty");
    check_label(check, examples.back().label, file.place(i));
  }
  return examples;
}

inline LabelledExample labelled_row(const nlohmann::ordered_json& row, const RowPlace& place, const LabelledColumns& wanted) {
  if (!row.is_object()) place.refuse("expected an object, got {}", row.type_name());
  std::vector<std::string> names;
  for (const auto& [key, value] : row.items()) names.push_back(key);
  const LabelledColumns columns = find_columns(names, wanted, place);
  const auto& label = row[columns.label];
  if (!label.is_string() && !label.is_number())
    place.refuse("expected \"{}\" to be a text or a number, got {}", columns.label, label.type_name());
  return {row_text(row, place, columns.text.c_str()), columns.second_text.empty() ? "" : row_text(row, place, columns.second_text.c_str()),
          label.is_string() ? label.get<std::string>() : label.dump()};
}

}  // namespace detail

/// Reads labelled text: a table of fields between tabs whose first line names the columns, where the name ends in .tsv
/// (quotes mean nothing in it, as in GLUE), else a JSON list or JSON Lines. A label is kept as it stands; see `label_names`.
/// @param check  of every label, such as `one_of` or `is_number`.
/// @throws DataError naming the file, the line or row (from 1) and what is wrong.
inline std::vector<LabelledExample> read_labelled(const std::filesystem::path& path, const LabelledColumns& columns = {},
                                                  const LabelCheck& check = {}) {
  std::vector<LabelledExample> examples;
  if (path.extension() == ".tsv") {
    examples = detail::read_labelled_tsv(RowFile::open_lines(path), columns, check);
    if (examples.empty()) fail<DataError>("read_examples", "{}: there is no line below the names of the columns", path.string());
    return examples;
  }
  const RowFile file = RowFile::open_json(path);
  for (int64_t i = 0; i < file.size(); ++i) {
    examples.push_back(detail::labelled_row(file.json(i), file.place(i), columns));
    detail::check_label(check, examples.back().label, file.place(i));
  }
  return examples;
}

/// A label as a number; nothing where it is none, or not finite.
inline std::optional<double> label_value(std::string_view label) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
  if (error != std::errc() || end != label.data() + label.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

inline LabelCheck is_number() {
  return [](const std::string& label) { return label_value(label) ? std::string() : fmt::format("expected the label to be a number, got \"{}\"", label); };
}

inline LabelCheck one_of(std::vector<std::string> names) {
  return [names = std::move(names)](const std::string& label) {
    const bool known = std::find(names.begin(), names.end(), label) != names.end();
    return known ? std::string() : fmt::format("expected the label to be one of [{}], got \"{}\"", fmt::join(names, ", "), label);
  };
}

/// The different labels, sorted: numbers by value when all are integers, else by name. Its index is a class's id.
inline std::vector<std::string> label_names(const std::vector<LabelledExample>& examples) {
  std::vector<std::string> names;
  for (const LabelledExample& example : examples) names.push_back(example.label);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const auto number = [](const std::string& name) { return detail::parse_integer<int64_t>(name); };
  if (std::all_of(names.begin(), names.end(), [&](const std::string& name) { return number(name).has_value(); })) {
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) { return *number(a) < *number(b); });
  }
  return names;
}

}  // namespace reft
