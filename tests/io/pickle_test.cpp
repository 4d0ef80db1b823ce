#include "reft/io/pickle.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/string_sink.hpp"

using reft::Pickle;
using reft::test::bytes_of;
using reft::test::contains;
using reft::test::error_text;
using namespace std::string_literals;

namespace {

constexpr std::array<std::string_view, 1> kGlobals{"torch.FloatStorage"};

std::string refusal(const std::string& pickle) {
  return error_text([&] { Pickle::parse(bytes_of(pickle), "x.pkl", kGlobals); });
}

/// "\x80\x02" body "."
std::string pickle_of(const std::string& body) { return "\x80\x02"s + body + "."; }

const reft::PickleValue& item(const reft::PickleValue& value, std::size_t i) { return *value.as<reft::PickleTuple>()->items.at(i); }

}  // namespace

TEST_CASE("plain values are read as Python writes them") {
  // pickle.dumps((None, True, False, 7, 300, -5, 2**40, -1, 1.5, "text", [1, 2], {"a": 3}), 2)
  const std::string bytes =
      "\x80\x02(N\x88\x89K\x07M,\x01J\xfb\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01J\xff\xff\xff\xff"
      "G?\xf8\x00\x00\x00\x00\x00\x00X\x04\x00\x00\x00textq\x00]q\x01(K\x01K\x02" "e}q\x02X\x01\x00\x00\x00" "aq\x03K\x03st."s;
  const Pickle pickle = Pickle::parse(bytes_of(bytes), "x.pkl", {});
  const auto& root = pickle.root();
  CHECK(item(root, 0).as<std::monostate>() != nullptr);
  CHECK(*item(root, 1).as<bool>());
  CHECK_FALSE(*item(root, 2).as<bool>());
  const std::vector<int64_t> integers{7, 300, -5, int64_t{1} << 40, -1};
  for (std::size_t i = 0; i < integers.size(); ++i) CHECK(*item(root, i + 3).as<int64_t>() == integers[i]);
  CHECK(*item(root, 8).as<double>() == 1.5);
  CHECK(*item(root, 9).as<std::string_view>() == "text");
  CHECK(item(root, 10).as<reft::PickleList>()->items.size() == 2);
  CHECK(*item(root, 11).as<reft::PickleDict>()->items.at("a")->as<int64_t>() == 3);
}

TEST_CASE("what is written is read again") {
  reft::PickleWriter writer;
  writer.opcode('(').integer(-1).integer(int64_t{1} << 40).text("a").integers(std::vector<int64_t>{}).empty_ordered_dict().opcode('t');
  const std::string bytes = writer.finish();
  const Pickle pickle = Pickle::parse(bytes_of(bytes), "x.pkl", {});
  CHECK(*item(pickle.root(), 0).as<int64_t>() == -1);
  CHECK(*item(pickle.root(), 1).as<int64_t>() == int64_t{1} << 40);
  CHECK(item(pickle.root(), 3).as<reft::PickleTuple>()->items.empty());
  CHECK(item(pickle.root(), 4).as<reft::PickleDict>()->items.empty());
}

TEST_CASE("a call is recorded, not made, and only of a listed global") {
  const std::string bytes = pickle_of("ctorch\nFloatStorage\nK\x01\x85R");
  const Pickle pickle = Pickle::parse(bytes_of(bytes), "x.pkl", kGlobals);
  CHECK(pickle.root().as<reft::PickleCall>()->function == "torch.FloatStorage");
  for (const char* global : {"os\nsystem", "builtins\neval", "posix\nsystem", "torch\nload", "torch.serialization\nload", "collections\nCounter"}) {
    const std::string text = refusal(pickle_of("c"s + global + "\nX\x02\x00\x00\x00ls\x85R"s));
    CHECK(contains(text, "has no place in a file of tensors; nothing was run"));
  }
  CHECK(refusal(pickle_of("cos\nsystem\n")) == "[reft::read_pickle] x.pkl: global \"os.system\" has no place in a file of tensors; nothing was run");
}

TEST_CASE("every opcode that is not for plain data is refused by name") {
  const std::string known = "(.NKMJGX)t]ae}suqrhjcQRb\x80\x88\x89\x8A\x85\x86\x87";
  int refused = 0;
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (known.find(static_cast<char>(opcode)) != std::string::npos) continue;
    const std::string text = refusal("\x80\x02"s + static_cast<char>(opcode));
    CHECK(contains(text, fmt::format("0x{:02x}", opcode)));
    CHECK(contains(text, "at byte 2 has no place in a file of tensors"));
    ++refused;
  }
  CHECK(refused == 256 - std::ssize(known));
  CHECK(contains(refusal("\x80\x02\x93"), "opcode STACK_GLOBAL (0x93)"));
  CHECK(contains(refusal("\x80\x02i"), "opcode INST (0x69)"));
}

TEST_CASE("malformed pickles are refused") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "it ends at byte 0, inside a value"},
      {"\x80\x04N.", "expected pickle protocol 2, as torch.save writes, got 4"},
      {pickle_of(""), "0 values are left at its end"},
      {pickle_of("NN"), "2 values are left at its end"},
      {pickle_of("N") + "x", "1 bytes follow its end"},
      {pickle_of("t"), "it closes a group that was never opened"},
      {pickle_of("(K\x01s"), "it takes 2 values where there are fewer"},
      {pickle_of("N(\x85"), "it takes 1 values where there are fewer"},  // a group's floor is not crossed
      {pickle_of("h\x05"), "it recalls value 5, which was never kept"},
      {pickle_of("NK\x01" "a"), "it appends to None"},
      {pickle_of("]K\x01K\x02s"), "it sets an item of a list"},
      {pickle_of("}(K\x01u"), "a dict has a key without a value"},
      {pickle_of("}K\x01K\x02s"), "a dict has an integer as a key, expected a text"},
      {pickle_of("}(X\x01\0\0\0aNX\x01\0\0\0aNu"s), "a dict has the key \"a\" twice"},
      {pickle_of("N)R"), "it calls None with a tuple"},
      {pickle_of("ccollections\nOrderedDict\nN\x85R"), "an OrderedDict is made from something"},
      {pickle_of("}}b"), "BUILD (0x62) sets attributes other than a state dict's _metadata"},
      {pickle_of("}}X\x05\0\0\0__x__Nsb"s), "BUILD (0x62) sets attributes"},
      {"\x80\x02X\xff\xff\xff\xff", "inside a value"},
      {"\x80\x02\x8a\x09" "123456789.", "an integer of 9 bytes"},
      {"\x80\x02" "ctorch", "inside a name"},
  };
  for (const auto& [pickle, text] : cases) {
    INFO(text);
    CHECK(contains(refusal(pickle), text));
  }
}

TEST_CASE("deep nesting, loops and expansion by reference cost no more than their length") {
  constexpr int kMany = 500000;
  Pickle::parse(bytes_of(pickle_of("N" + std::string(kMany, '\x85'))), "x.pkl", {});
  CHECK(contains(refusal(pickle_of(std::string(kMany, '('))), "0 values are left"));
  const std::string loop = pickle_of("]q\x01h\x01" "a");
  const Pickle looped = Pickle::parse(bytes_of(loop), "x.pkl", {});
  CHECK(looped.root().as<reft::PickleList>()->items.front() == &looped.root());
  std::string doubling = "N";  // each level twice the one below: 2^200 values if they were copied
  for (int level = 0; level < 200; ++level) doubling += "q\x01h\x01\x86"s;
  Pickle::parse(bytes_of(pickle_of(doubling)), "x.pkl", {});
  CHECK(contains(refusal(std::string(2 << 20, 'N')), "expected at most 1048576 bytes"));
}
