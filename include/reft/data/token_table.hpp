#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/example_source.hpp"
#include "reft/data/tokenize.hpp"
#include "reft/io/safetensors.hpp"

namespace reft {

/// Tokenized rows packed end to end, 8 bytes a token; in memory, or mapped from a file and read when they are asked for.
class TokenTable : public ExampleSource {
 public:
  TokenTable() { offsets_.push_back(0); }
  TokenTable(const TokenTable&) = delete;
  TokenTable& operator=(const TokenTable&) = delete;

  /// @throws ConfigError for a token that does not fit into 32 bits, or a table that was read from a file.
  void add(const Example& example, RowStatus status) {
    if (file_) fail<ConfigError>("TokenTable", "a table of a file cannot grow");
    for (const auto& [from, to] : {std::pair(&example.input_ids, &ids_), std::pair(&example.labels, &labels_)}) {
      for (const int64_t token : *from) {
        if (token > std::numeric_limits<int32_t>::max()) fail<ConfigError>("TokenTable", "token {} does not fit into 32 bits", token);
        to->push_back(static_cast<int32_t>(token));
      }
    }
    offsets_.push_back(std::ssize(ids_));
    prompt_lengths_.push_back(static_cast<int32_t>(example.prompt_length));
    statuses_.push_back(status);
  }

  int64_t size() const override { return std::ssize(statuses()); }
  RowStatus status(int64_t index) const { return statuses()[static_cast<std::size_t>(index)]; }

  Example get(int64_t index) const override {
    const auto row = static_cast<std::size_t>(index);
    const auto begin = static_cast<std::size_t>(offsets()[row]), length = static_cast<std::size_t>(offsets()[row + 1]) - begin;
    const auto widened = [&](std::span<const int32_t> tokens) {
      const auto part = tokens.subspan(begin, length);
      return std::vector<int64_t>(part.begin(), part.end());
    };
    return {widened(ids()), widened(labels()), prompt_lengths()[row]};
  }

  /// Writes the table in one step.   @throws Error if the file cannot be written.
  void save(const std::filesystem::path& path, const std::string& key) const {
    const auto view = [](const char* dtype, auto values) { return TensorView{dtype, {std::ssize(values)}, std::as_bytes(values)}; };
    const TensorViews tensors{{"input_ids", view("I32", ids())},
                              {"labels", view("I32", labels())},
                              {"offsets", view("I64", offsets())},
                              {"prompt_lengths", view("I32", prompt_lengths())},
                              {"statuses", view("U8", statuses())}};
    write_safetensors(path, tensors, {{"key", key}, {"content_hash", content_hash(tensors)}});
  }

  /// @return the table of a file, mapped; nothing if the file is missing, damaged or has another key.
  static std::shared_ptr<const TokenTable> open(const std::filesystem::path& path, const std::string& key) {
    if (!std::filesystem::exists(path)) return nullptr;
    try {
      auto table = std::make_shared<TokenTable>();
      table->file_ = SafetensorsFile::open(path);
      const auto stored = table->file_->metadata().find("key");
      if (stored == table->file_->metadata().end() || stored->second != key) return nullptr;
      verify_content_hash(*table->file_);
      if (!table->is_consistent()) return nullptr;
      return table;
    } catch (const CheckpointError&) {
      return nullptr;
    }
  }

 private:
  /// Whether the tensors of the file fit together, so that every row lies within them.   @throws CheckpointError if one is missing.
  bool is_consistent() const {
    for (const auto& [name, dtype] :
         {std::pair("input_ids", "I32"), {"labels", "I32"}, {"offsets", "I64"}, {"prompt_lengths", "I32"}, {"statuses", "U8"}}) {
      if (file_->at(name).dtype != dtype) return false;
    }
    const auto bounds = offsets();
    return bounds.size() == statuses().size() + 1 && prompt_lengths().size() == statuses().size() && labels().size() == ids().size() &&
           bounds.front() == 0 && bounds.back() == std::ssize(ids()) && std::is_sorted(bounds.begin(), bounds.end());
  }

  template <class Number>
  std::span<const Number> values(const std::vector<Number>& own, const char* name) const {
    if (!file_) return own;
    const std::span<const std::byte> bytes = file_->at(name).data;
    return {reinterpret_cast<const Number*>(bytes.data()), bytes.size() / sizeof(Number)};
  }

  std::span<const int32_t> ids() const { return values(ids_, "input_ids"); }
  std::span<const int32_t> labels() const { return values(labels_, "labels"); }
  std::span<const int64_t> offsets() const { return values(offsets_, "offsets"); }
  std::span<const int32_t> prompt_lengths() const { return values(prompt_lengths_, "prompt_lengths"); }
  std::span<const RowStatus> statuses() const { return values(statuses_, "statuses"); }

  std::vector<int32_t> ids_, labels_;  // of all rows
  std::vector<int64_t> offsets_;       // where each row begins, and the end
  std::vector<int32_t> prompt_lengths_;
  std::vector<RowStatus> statuses_;
  std::optional<SafetensorsFile> file_;
};

}  // namespace reft
