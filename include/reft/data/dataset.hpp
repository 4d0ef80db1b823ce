#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/data/example_source.hpp"
#include "reft/data/readers.hpp"
#include "reft/data/sampler.hpp"
#include "reft/data/token_table.hpp"
#include "reft/data/tokenize.hpp"

namespace reft {

struct DatasetOptions {
  TokenizeOptions tokenize = {};
  bool stream = false;                 ///< read and tokenize rows when they are asked for, for files larger than memory
  std::filesystem::path cache = {};    ///< folder for tokenized data; empty = none
  std::string tokenizer_content = {};  ///< what the tokens depend on besides file and options, for the cache's key
  int64_t max_examples = 0;            ///< only the first rows; 0 = all
  double eval_fraction = 0.0;          ///< share held out for evaluation
  uint64_t seed = 42;                  ///< of the choice of those
};

/// A data file as examples.
struct Dataset {
  std::shared_ptr<const ExampleSource> train, evaluation;  ///< evaluation is empty without a fraction
  std::vector<RawExample> samples = {};                    ///< a few rows as they were written, held-out ones if there are
  int64_t num_cut = 0, num_skipped = 0;                    ///< as in TokenizedExamples; not known when streamed
};

namespace detail {

/// One row, tokenized; every error names its place.
inline TokenizedRow tokenized_row(const RowFile& file, int64_t index, const EncodeFunction& encode, const TokenizeOptions& options) {
  const RawExample raw = raw_example(file, index);
  try {
    return tokenize_row(raw, encode, options);
  } catch (const Error& error) {
    std::string_view text = error.what();
    if (text.starts_with("[reft::tokenize_examples] ")) text.remove_prefix(26);
    file.place(index).refuse("{}", text);
  }
}

/// Rows of a file, read and tokenized when they are asked for. In place of one from which nothing can be learned stands
/// the next that is usable.
class StreamedExamples : public ExampleSource {
 public:
  StreamedExamples(std::shared_ptr<const RowFile> file, std::vector<int64_t> rows, EncodeFunction encode, TokenizeOptions options)
      : file_(std::move(file)), rows_(std::move(rows)), encode_(std::move(encode)), options_(std::move(options)) {}

  int64_t size() const override { return std::ssize(rows_); }

  Example get(int64_t index) const override {
    for (int64_t i = 0; i < size(); ++i) {
      const int64_t row = rows_[static_cast<std::size_t>((index + i) % size())];
      TokenizedRow tokenized = tokenized_row(*file_, row, encode_, options_);
      if (tokenized.status != RowStatus::unusable) return std::move(tokenized.example);
    }
    fail_none_usable(rows_.size(), options_.max_length);
  }

 private:
  std::shared_ptr<const RowFile> file_;
  std::vector<int64_t> rows_;
  EncodeFunction encode_;
  TokenizeOptions options_;
};

/// What the tokens of a file depend on, as 16 hexadecimal digits.
inline std::string cache_key(const RowFile& file, int64_t count, const DatasetOptions& options) {
  const TokenizeOptions& tokenize = options.tokenize;
  const std::string settings =
      fmt::format("1 {} {} {} {} {} {}", count, to_string(tokenize.prompt_template), tokenize.eos_token_id.value_or(-1),
                  tokenize.max_length, tokenize.vocabulary_size, file.path().extension().string());
  const auto view = [](std::string_view bytes) { return TensorView{"U8", {std::ssize(bytes)}, std::as_bytes(std::span(bytes))}; };
  return content_hash({{"data", view(file.bytes())}, {"settings", view(settings)}, {"tokenizer", view(options.tokenizer_content)}});
}

inline std::shared_ptr<const TokenTable> tokenized_table(const RowFile& file, int64_t count, const EncodeFunction& encode,
                                                         const DatasetOptions& options) {
  std::string key;
  std::filesystem::path path;
  if (!options.cache.empty()) {
    key = cache_key(file, count, options);
    path = options.cache / (key + ".safetensors");
    if (auto table = TokenTable::open(path, key)) return table;
  }
  auto table = std::make_shared<TokenTable>();
  for (int64_t i = 0; i < count; ++i) {
    const TokenizedRow row = tokenized_row(file, i, encode, options.tokenize);
    table->add(row.example, row.status);
  }
  if (!options.cache.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.cache, error);
    if (error) fail<Error>("open_dataset", "{}: cannot create the folder: {}", options.cache.string(), error.message());
    table->save(path, key);
  }
  return table;
}

}  // namespace detail

/// Reads and tokenizes a data file, and splits off what is held out.
/// @throws DataError as `raw_example` and `tokenize_row`, naming the line, and if nothing usable is left; ConfigError for
///   a cache of streamed data; Error if the cache cannot be written.
inline Dataset open_dataset(const std::filesystem::path& path, const EncodeFunction& encode, const DatasetOptions& options) {
  if (options.stream && !options.cache.empty()) fail<ConfigError>("open_dataset", "streamed data is not cached; choose one");
  const auto rows = std::make_shared<const RowFile>(open_examples(path));
  const RowFile& file = *rows;
  const int64_t count = options.max_examples > 0 ? std::min(options.max_examples, file.size()) : file.size();
  std::vector<int64_t> train(static_cast<std::size_t>(count)), held_out;
  std::iota(train.begin(), train.end(), int64_t{0});
  if (options.eval_fraction > 0.0) std::tie(train, held_out) = split_train_eval(std::move(train), options.eval_fraction, options.seed);

  Dataset dataset;
  const auto& shown = held_out.empty() ? train : held_out;
  constexpr std::size_t kSamples = 8;
  const std::size_t num_shown = std::min(kSamples, shown.size());
  for (std::size_t i = 0; i < num_shown; ++i) dataset.samples.push_back(raw_example(file, shown[i * shown.size() / num_shown]));

  if (options.stream) {
    dataset.train = std::make_shared<detail::StreamedExamples>(rows, std::move(train), encode, options.tokenize);
    dataset.evaluation = std::make_shared<detail::StreamedExamples>(rows, std::move(held_out), encode, options.tokenize);
    return dataset;
  }
  const auto table = detail::tokenized_table(file, count, encode, options);
  for (auto* part : {&train, &held_out}) {
    const std::size_t all = part->size();
    for (const int64_t index : *part) dataset.num_cut += table->status(index) == RowStatus::cut;
    std::erase_if(*part, [&](int64_t index) { return table->status(index) == RowStatus::unusable; });
    dataset.num_skipped += static_cast<int64_t>(all - part->size());
    if (part->empty() && all > 0) detail::fail_none_usable(all, options.tokenize.max_length);
  }
  dataset.train = std::make_shared<SelectedExamples>(table, std::move(train));
  dataset.evaluation = std::make_shared<SelectedExamples>(table, std::move(held_out));
  return dataset;
}

}  // namespace reft
