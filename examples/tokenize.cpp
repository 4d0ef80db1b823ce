// Text to token ids and back.
//   tokenize --model DIR --text "Once upon a time"     prints [403,407,…]
//   tokenize --model DIR --decode 403,407              prints the text
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "reft/io/mapped_file.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "support/command_line.hpp"

namespace {

struct Settings {
  std::filesystem::path model;
  std::string text, file;
  std::vector<int64_t> ids;
  bool no_special = false;
};

/// The flags every program takes; none of them changes a token.
void add_machine_flags(CLI::App& app) {
  const char* group = "Accepted as by the other programs, without effect";
  for (const char* name : {"--device", "--dtype", "--threads", "--seed"}) {
    app.add_option_function<std::string>(
           name, [](const std::string&) {}, "")
        ->group(group);
  }
  app.add_flag_function(
         "--quiet", [](int64_t) {}, "")
      ->group(group);
}

/// Exactly one of the three inputs must be given.
void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("--model", settings.model, "folder with a tokenizer.json")->required();
  CLI::Option_group* input = app.add_option_group("Input");
  input->add_option("--text", settings.text, "text to encode");
  input->add_option("--file", settings.file, "file whose whole content is encoded");
  input->add_option("--decode", settings.ids, "ids to turn into text, as 1,2,3; special tokens are left out")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  input->require_option(1);
  app.add_flag("--no-special", settings.no_special, "without the special tokens the tokenizer puts around a text");
  add_machine_flags(app);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Turns text into token ids, or ids into text, with the tokenizer of a model folder.", "tokenize");
  Settings settings;
  add_flags(app, settings);
  return reft::program::run(app, argc, argv, [&] {
    const reft::Tokenizer tokenizer = reft::load_tokenizer(settings.model);
    if (app.count("--decode") > 0) {
      fmt::print("{}\n", tokenizer.decode(settings.ids));
      return 0;
    }
    const auto file = app.count("--file") > 0 ? reft::MappedFile::open(settings.file) : nullptr;
    const auto ids = tokenizer.encode(file ? file->text() : settings.text, !settings.no_special);
    fmt::print("[{}]\n", fmt::join(ids, ","));
    return 0;
  });
}
