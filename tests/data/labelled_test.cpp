#include "reft/data/labelled.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::LabelledExample;
using reft::read_labelled;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

std::vector<LabelledExample> read(const char* name, std::string_view content, const reft::LabelledColumns& columns = {}) {
  const TemporaryFolder folder;
  return read_labelled(write_text(folder / name, content), columns);
}

std::string refusal(const char* name, std::string_view content, const reft::LabelledColumns& columns = {}) {
  const TemporaryFolder folder;
  const auto path = write_text(folder / name, content);
  const std::string text = reft::test::error_text([&] { read_labelled(path, columns); }),
                    prefix = "[reft::read_examples] " + path.string() + ": ";
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

}  // namespace

TEST_CASE("a label is checked where it stands") {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "dev.tsv", "sentence\tlabel\nfine\t1\nbad\t2\n");
  CHECK(reft::test::error_text([&] { read_labelled(path, {}, reft::one_of({"0", "1"})); }) ==
        "[reft::read_examples] " + path.string() + ": line 3: expected the label to be one of [0, 1], got \"2\"");
  const auto rows = write_text(folder / "dev.json", R"([{"text":"a","label":1.5},{"text":"b","label":"high"}])");
  CHECK(reft::test::error_text([&] { read_labelled(rows, {}, reft::is_number()); }) ==
        "[reft::read_examples] " + rows.string() + ": row 2: expected the label to be a number, got \"high\"");
  CHECK(read_labelled(path, {}, reft::one_of({"1", "2"})).size() == 2);
}

TEST_CASE("labelled text is read from tables, whose quotes mean nothing") {
  CHECK(read("a.tsv", "sentence\tlabel\nit 's \"good\" \t1\r\n\nbad\t0\n") ==
        std::vector<LabelledExample>{{"it 's \"good\" ", "", "1"}, {"bad", "", "0"}});
  CHECK(read("a.tsv", "index\tpremise\thypothesis\tlabel\n7\tp\th\tentailment") == std::vector<LabelledExample>{{"p", "h", "entailment"}});
  CHECK(read("a.tsv", "a\tb\tscore\nx\ty\t2.5", {.text = "b", .label = "score"}) == std::vector<LabelledExample>{{"y", "", "2.5"}});
}

TEST_CASE("labelled text is read from JSON, its labels as they stand") {
  CHECK(read("a.jsonl", "{\"text\":\"t\",\"label\":1}\n{\"text\":\"u\",\"label\":\"yes\"}\n{\"text\":\"v\",\"label\":2.5}") ==
        std::vector<LabelledExample>{{"t", "", "1"}, {"u", "", "yes"}, {"v", "", "2.5"}});
  CHECK(read("a.json", R"([{"sentence1":"a","sentence2":"b","label":0}])") == std::vector<LabelledExample>{{"a", "b", "0"}});
}

TEST_CASE("bad labelled rows are refused with their place") {
  CHECK(refusal("a.tsv", "sentence\tlabel\ngood\t1\n\nbad") == "line 4: expected 2 fields, got 1");
  CHECK(refusal("a.tsv", "sentence\tlabel\ngood\t") == "line 2: the label is empty");
  CHECK(refusal("a.tsv", "a\tb\nx\ty") == "line 1: no column for the text; there are [a, b]");
  CHECK(refusal("a.tsv", "text\tlabel\nx\t1", {.label = "score"}) == "line 1: no column for the label, \"score\"; there are [text, label]");
  CHECK(refusal("a.tsv", "text\tlabel\n") == "there is no line below the names of the columns");
  CHECK(refusal("a.jsonl", "{\"text\":\"t\",\"label\":1}\n{\"text\":\"t\"}") == "line 2: no column for the label; there are [text]");
  CHECK(refusal("a.jsonl", R"({"text":"t","label":null})") == "line 1: expected \"label\" to be a text or a number, got null");
  CHECK(refusal("a.jsonl", R"({"text":5,"label":1})") == "line 1: expected \"text\" to be a text, got number");
}

TEST_CASE("classes are numbered by their labels: integers by value, others by name") {
  const auto named = [](std::vector<std::string> labels) {
    std::vector<LabelledExample> examples;
    for (auto& label : labels) examples.push_back({"t", "", label});
    return reft::label_names(examples);
  };
  CHECK(named({"10", "2", "10", "-1"}) == std::vector<std::string>{"-1", "2", "10"});
  CHECK(named({"no", "yes", "2", "no"}) == std::vector<std::string>{"2", "no", "yes"});
}

TEST_CASE("GLUE's tables are read whole") {
  const auto sst = reft::test::shared_path("assets/datasets/glue/SST-2/dev.tsv"),
             rte = reft::test::shared_path("assets/datasets/glue/RTE/dev.tsv");
  if (!sst || !rte) return;
  const auto sentences = read_labelled(*sst), pairs = read_labelled(*rte);
  CHECK(sentences.size() == 872);
  CHECK(reft::label_names(sentences) == std::vector<std::string>{"0", "1"});
  CHECK(pairs.size() == 139);
  CHECK(!pairs.front().second_text.empty());
  CHECK(reft::label_names(pairs).size() == 2);
}
