// Text to token ids and back.
//   tokenize --model DIR --text "Once upon a time"     prints [403,407,…]
//   tokenize --model DIR --decode 403,407              prints the text
//   tokenize --model DIR --lines TEXTS.jsonl           one JSON text a line; prints {"ids":[…],"text":"…"} for each
//   tokenize --model DIR --chat chats.jsonl            conversations in the form of the model's chat template
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reft/io/mapped_file.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "support/command_line.hpp"
#include "support/model_path.hpp"

namespace {

struct Settings {
  std::filesystem::path model;
  std::string text, file, decode, lines, chat;
  bool no_special = false;
};

/// The flags every program takes.
void add_machine_flags(CLI::App& app) {
  const std::string option_help = "as in the other programs; changes no token";
  const std::string flag_help = "no progress on standard error; there is none";
  for (const char* name : {"--device", "--dtype", "--threads", "--seed"}) {
    app.add_option(name, option_help)->group("Machine");
  }
  app.add_flag("--quiet", flag_help)->group("Machine");
}

/// Exactly one of the inputs must be given.
void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("--model", settings.model, "folder with a tokenizer.json (or older files), or the id of a model in the local Hugging Face cache")->required();
  CLI::Option_group* input = app.add_option_group("Input");
  input->add_option("--text", settings.text, "text to encode");
  input->add_option("--file", settings.file, "file whose whole content is encoded");
  input->add_option("--lines", settings.lines,
                    "file with a JSON string a line; prints for each its ids and the text they stand for, special tokens left out");
  input->add_option("--decode", settings.decode, "ids to turn into text, \"1,2,3\"; special tokens are left out")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  input->add_option("--chat", settings.chat,
                    "conversations, one a line: [{\"role\": …, \"content\": …}, …], or {\"messages\": […]} with tools, "
                    "add_generation_prompt and variables of the template; prints text, tokens and the assistant's parts");
  input->require_option(1);
  app.add_flag("--no-special", settings.no_special, "without the special tokens the tokenizer puts around a text");
  add_machine_flags(app);
}

std::string joined(const std::vector<int64_t>& ids) { return fmt::format("[{}]", fmt::join(ids, ",")); }

/// @throws DataError naming the line that is no JSON string.
void print_lines(const reft::Tokenizer& tokenizer, std::string_view lines, bool add_special_tokens) {
  for (std::size_t number = 1; !lines.empty(); ++number) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    const auto text = nlohmann::json::parse(line, nullptr, false);
    if (!text.is_string()) reft::fail<reft::DataError>("tokenize", "line {}: expected a JSON string", number);
    const auto ids = tokenizer.encode(text.get_ref<const std::string&>(), add_special_tokens);
    fmt::print("{{\"ids\":{},\"text\":{}}}\n", joined(ids), nlohmann::json(tokenizer.decode(ids)).dump());
  }
}

/// A line of the file: messages alone, or with what else the template gets.
std::pair<nlohmann::ordered_json, reft::ChatOptions> read_chat(const std::string& line) {
  auto chat = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  const std::time_t now = std::time(nullptr);
  reft::ChatOptions options{.now = *std::localtime(&now)};
  if (!chat.is_object()) return {std::move(chat), std::move(options)};
  const auto take = [&](const char* key) {
    auto value = chat.value(key, nlohmann::ordered_json());
    chat.erase(key);
    return value;
  };
  auto messages = take("messages");
  options.tools = take("tools");
  options.add_generation_prompt = take("add_generation_prompt") == true;
  options.variables = std::move(chat);
  return {std::move(messages), std::move(options)};
}

/// "assistant" is null where the template does not tell which parts are the assistant's.
void print_chat(const reft::Tokenizer& tokenizer, const std::string& line) {
  const auto [messages, options] = read_chat(line);
  reft::RenderedChat chat{tokenizer.chat_template().render(messages, options), {}};
  auto parts = nlohmann::ordered_json::array();
  try {
    chat = tokenizer.chat_template().render_with_assistant(messages, options);
    for (const auto& [begin, end] : chat.assistant) parts.push_back(chat.text.substr(begin, end - begin));
  } catch (const reft::TokenizerError&) {
    parts = nullptr;
  }
  const nlohmann::ordered_json object{{"text", chat.text}, {"tokens", tokenizer.encode(chat.text, false)}, {"assistant", parts}};
  fmt::print("{}\n", object.dump());
}

void print_chats(const reft::Tokenizer& tokenizer, const std::string& path) {
  std::ifstream file(path);
  if (!file) reft::fail<reft::DataError>("tokenize", "{}: no such file", path);
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      print_chat(tokenizer, line);
    } catch (const reft::TokenizerError& error) {
      reft::fail<reft::DataError>("tokenize", "{}: line {}: {}", path, number, error.what());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Turns text into token ids, or ids into text, with the tokenizer of a model folder.", "tokenize");
  Settings settings;
  add_flags(app, settings);
  return reft::program::run(app, argc, argv, [&] {
    const reft::Tokenizer tokenizer = reft::load_tokenizer(reft::program::model_path(settings.model));
    if (app.count("--decode") > 0) {
      fmt::print("{}\n", tokenizer.decode(reft::program::parse_tokens(settings.decode)));
      return 0;
    }
    if (app.count("--lines") > 0) {
      print_lines(tokenizer, reft::MappedFile::open(settings.lines)->text(), !settings.no_special);
      return 0;
    }
    if (app.count("--chat") > 0) {
      print_chats(tokenizer, settings.chat);
      return 0;
    }
    const auto file = app.count("--file") > 0 ? reft::MappedFile::open(settings.file) : nullptr;
    fmt::print("{}\n", joined(tokenizer.encode(file ? file->text() : settings.text, !settings.no_special)));
    return 0;
  });
}
