#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/error.hpp"

namespace reft {

/// Where a trainer takes its examples from: memory, or a file when they are asked for.
class ExampleSource {
 public:
  virtual ~ExampleSource() = default;
  virtual int64_t size() const = 0;
  /// @param index  0 to size() - 1; the same one always gives the same example.
  virtual Example get(int64_t index) const = 0;
  /// The sequences of an example that has more than one, such as a preference pair; `get` gives the first.
  virtual std::vector<Example> sequences(int64_t index) const { return {get(index)}; }
};

/// Examples of a list that outlives this.
class ListedExamples : public ExampleSource {
 public:
  explicit ListedExamples(const std::vector<Example>& examples) : examples_(examples) {}
  int64_t size() const override { return std::ssize(examples_); }
  Example get(int64_t index) const override { return examples_.at(static_cast<std::size_t>(index)); }

 private:
  const std::vector<Example>& examples_;
};

/// Some of another source's examples, in an order of their own.
class SelectedExamples : public ExampleSource {
 public:
  SelectedExamples(std::shared_ptr<const ExampleSource> source, std::vector<int64_t> indices)
      : source_(std::move(source)), indices_(std::move(indices)) {}
  int64_t size() const override { return std::ssize(indices_); }
  Example get(int64_t index) const override { return source_->get(indices_.at(static_cast<std::size_t>(index))); }
  std::vector<Example> sequences(int64_t index) const override { return source_->sequences(indices_.at(static_cast<std::size_t>(index))); }

 private:
  std::shared_ptr<const ExampleSource> source_;
  std::vector<int64_t> indices_;
};

/// Sources laid end to end.
class JoinedExamples : public ExampleSource {
 public:
  explicit JoinedExamples(std::vector<std::shared_ptr<const ExampleSource>> sources) : sources_(std::move(sources)) {
    for (const auto& source : sources_) ends_.push_back((ends_.empty() ? 0 : ends_.back()) + source->size());
  }

  int64_t size() const override { return ends_.empty() ? 0 : ends_.back(); }

  Example get(int64_t index) const override {
    const auto [part, within] = place(index);
    return sources_.at(part)->get(within);
  }

  std::vector<Example> sequences(int64_t index) const override {
    const auto [part, within] = place(index);
    return sources_.at(part)->sequences(within);
  }

 private:
  std::pair<std::size_t, int64_t> place(int64_t index) const {
    const auto part = static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
    return {part, index - (part == 0 ? 0 : ends_[part - 1])};
  }

  std::vector<std::shared_ptr<const ExampleSource>> sources_;
  std::vector<int64_t> ends_;  // of each source, in the whole
};

}  // namespace reft
