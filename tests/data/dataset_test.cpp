#include "reft/data/dataset.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::Example;
using reft::open_dataset;
using reft::test::contains;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

int encoded = 0;

/// One token per byte after a first token.
std::vector<int64_t> encode_bytes(std::string_view text) {
  ++encoded;
  std::vector<int64_t> ids{1};
  for (const unsigned char byte : text) ids.push_back(byte);
  return ids;
}

reft::DatasetOptions options() {
  return {.tokenize = {.prompt_template = reft::PromptTemplate::none, .eos_token_id = 2, .max_length = 12}};
}

std::vector<Example> all(const reft::ExampleSource& source) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < source.size(); ++i) examples.push_back(source.get(i));
  return examples;
}

/// 20 rows; row 4's prompt fills max_length alone, row 7's answer is cut.
std::string rows() {
  std::string text;
  for (int i = 0; i < 20; ++i) {
    const std::string prompt = i == 4 ? "a prompt that is far too long" : fmt::format("p{}", i),
                      answer = i == 7 ? "an answer too long" : fmt::format("a{}", i);
    text += fmt::format("{{\"prompt\":\"{}\",\"completion\":\"{}\"}}\n", prompt, answer);
  }
  return text;
}

}  // namespace

TEST_CASE("a dataset is what reading and tokenizing gives, with the same rows held out") {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "data.jsonl", rows());
  auto [train, held_out] = reft::split_train_eval(reft::read_examples(path), 0.25, 42);
  reft::DatasetOptions held = options();
  held.eval_fraction = 0.25;
  const auto dataset = open_dataset(path, encode_bytes, held);
  CHECK(all(*dataset.train) == reft::tokenize_examples(train, encode_bytes, held.tokenize).examples);
  CHECK(all(*dataset.evaluation) == reft::tokenize_examples(held_out, encode_bytes, held.tokenize).examples);
  CHECK(dataset.num_cut == 1);
  CHECK(dataset.num_skipped == 1);
  CHECK(dataset.samples.size() == 5);
  CHECK(dataset.samples.front() == held_out.front());

  reft::DatasetOptions few = options();
  few.max_examples = 3;
  CHECK(open_dataset(path, encode_bytes, few).train->size() == 3);
  CHECK(open_dataset(path, encode_bytes, few).evaluation->size() == 0);
}

TEST_CASE("streamed rows are the same, read when they are asked for") {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "data.jsonl", rows());
  reft::DatasetOptions streamed = options();
  streamed.stream = true;
  encoded = 0;
  const auto stream = open_dataset(path, encode_bytes, streamed), whole = open_dataset(path, encode_bytes, options());
  CHECK(encoded == 40);  // of the whole one alone: prompt, and prompt with answer
  REQUIRE(stream.train->size() == 20);
  auto expected = all(*whole.train);
  expected.insert(expected.begin() + 4, expected[4]);  // the unusable row's place is taken by the next
  CHECK(all(*stream.train) == expected);

  const auto broken = write_text(folder / "broken.jsonl", rows() + "\n{\"prompt\":1}\n");
  const auto late = open_dataset(broken, encode_bytes, streamed);
  CHECK(late.train->get(3) == expected[3]);
  CHECK(contains(error_text([&] { late.train->get(20); }), "broken.jsonl: line 22: "));
  const auto hopeless = write_text(folder / "hopeless.jsonl", R"({"prompt":"a prompt that is far too long","completion":"a"})");
  CHECK(contains(error_text([&] { open_dataset(hopeless, encode_bytes, streamed).train->get(0); }), "none of 1 examples is usable"));
}

TEST_CASE("tokenized data is kept for the next time, unless what it depends on changed") {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "data.jsonl", rows());
  reft::DatasetOptions cached = options();
  cached.cache = folder / "cache/tokens";
  cached.tokenizer_content = "tokenizer 1";
  const auto tokenizes = [&](const reft::DatasetOptions& with) {
    encoded = 0;
    const auto dataset = open_dataset(path, encode_bytes, with);
    CHECK(dataset.num_skipped == 1);
    return encoded > 0;
  };
  CHECK(tokenizes(cached));
  const auto expected = all(*open_dataset(path, encode_bytes, options()).train);
  CHECK(!tokenizes(cached));
  CHECK(all(*open_dataset(path, encode_bytes, cached).train) == expected);
  reft::DatasetOptions held = cached;
  held.eval_fraction = 0.5;  // the same tokens, split another way
  CHECK(!tokenizes(held));
  for (int change = 0; change < 5; ++change) {
    reft::DatasetOptions other = cached;
    if (change == 0) other.tokenizer_content = "tokenizer 2";
    if (change == 1) other.tokenize.eos_token_id = 3;
    if (change == 2) other.tokenize.max_length = 11;
    if (change == 3) other.tokenize.prompt_template = reft::PromptTemplate::alpaca;
    if (change == 4) other.max_examples = 19;
    CAPTURE(change);
    CHECK(tokenizes(other));
    CHECK(!tokenizes(other));
  }
  write_text(path, rows() + "{\"prompt\":\"p\",\"completion\":\"a\"}\n");
  CHECK(tokenizes(cached));

  // A damaged file is made anew.
  for (const auto& entry : std::filesystem::directory_iterator(cached.cache))
    write_text(entry.path(), reft::test::read_text(entry.path()) + "x");
  CHECK(tokenizes(cached));
  CHECK(!tokenizes(cached));
  cached.stream = true;
  CHECK(error_text([&] { open_dataset(path, encode_bytes, cached); }) == "[reft::open_dataset] streamed data is not cached; choose one");
}

TEST_CASE("errors while tokenizing name the line") {
  const TemporaryFolder folder;
  const auto path = write_text(
      folder / "data.jsonl",
      "{\"input_ids\":[1,2],\"labels\":[1,2],\"prompt_length\":1}\n\n{\"input_ids\":[1,99],\"labels\":[1,2],\"prompt_length\":1}\n");
  reft::DatasetOptions small = options();
  small.tokenize.vocabulary_size = 50;
  CHECK(error_text([&] { open_dataset(path, encode_bytes, small); }) ==
        "[reft::read_examples] " + path.string() + ": line 3: token 99, but the model's vocabulary has 50 (0..49)");
  const auto chat = write_text(folder / "chat.jsonl", R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})");
  CHECK(contains(error_text([&] { open_dataset(chat, encode_bytes, small); }),
                 "chat.jsonl: line 1: chat messages need a tokenizer that has a chat template"));
  CHECK(contains(error_text([&] {
                   open_dataset(write_text(folder / "long.jsonl", R"({"prompt":"a prompt that is far too long","completion":"a"})"),
                                encode_bytes, options());
                 }),
                 "none of 1 examples is usable: within 12 tokens"));
}
