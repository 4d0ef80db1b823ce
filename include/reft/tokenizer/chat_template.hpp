#pragma once

#include <cstddef>
#include <ctime>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/jinja/template.hpp"

namespace reft {

/// What a chat template gets beside the messages.
struct ChatOptions {
  bool add_generation_prompt = false;      // ends the text where the assistant's answer begins
  nlohmann::ordered_json tools = nullptr;  // JSON schemas of functions the model may call
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();  // what the template knows besides: documents, enable_thinking …
  std::optional<std::tm> now;  // what strftime_now says; without it that function is not defined
  std::string name;  // of one template of several; by default "tool_use" if there are tools and there is one, else "default"
};

/// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin;
  std::size_t end;
  bool operator==(const TextRange&) const = default;
};

struct RenderedChat {
  std::string text;
  std::vector<TextRange> assistant;  // what the assistant wrote, in order
};

/// The text of a conversation in the form its model was trained on: a Jinja template, as transformers renders it.
/// Messages are an array of objects such as {"role": "user", "content": "Hi"}; in an ordered_json the keys of tools and
/// their arguments are written in their own order, in a plain json alphabetically. Tokenize the text without special
/// tokens: those of the template are in it. Immutable: many threads may render at once.
class ChatTemplate {
 public:
  /// @param source     in Jinja, @param variables what it may use in every chat: bos_token, eos_token …
  /// @throws TokenizerError naming the line, for what is malformed or not supported.
  explicit ChatTemplate(std::string_view source, nlohmann::ordered_json variables = nlohmann::ordered_json::object())
      : variables_(std::move(variables)) {
    templates_["default"].parsed = std::make_shared<const detail::jinja::Template>(source);
  }

  /// Several templates by name. One that cannot be read is an error only where it is used.
  ChatTemplate(const std::map<std::string, std::string>& sources, nlohmann::ordered_json variables)
      : variables_(std::move(variables)) {
    for (const auto& [name, source] : sources) {
      Entry& entry = templates_[name];
      try {
        entry.parsed = std::make_shared<const detail::jinja::Template>(source);
      } catch (const TokenizerError& error) {
        entry.problem = error.what();
      }
    }
  }

  /// @throws TokenizerError naming the line, for what the template refuses (roles in a wrong order, say), for what is
  ///         not supported, and for a template that would not end.
  std::string render(const nlohmann::ordered_json& messages, const ChatOptions& options = {}) const {
    return rendered(messages, options).text;
  }

  /// The text, and where in it is what the assistant wrote: what {% generation %} blocks of the template hold, or else
  /// for each message of the assistant all from its generation prompt to the end of its turn.
  /// @throws TokenizerError also where the template has no such blocks, and writes a turn differently once others follow.
  RenderedChat render_with_assistant(const nlohmann::ordered_json& messages, const ChatOptions& options = {}) const {
    auto [text, generations] = rendered(messages, options);
    RenderedChat chat{std::move(text), {}};
    for (const auto& [begin, end, placed] : generations) {
      if (!placed) {
        fail<TokenizerError>("ChatTemplate", "a generation block within a macro or a block set has no known place in the text");
      }
      chat.assistant.push_back({begin, end});
    }
    if (generations.empty()) chat.assistant = turns_of_assistant(messages, options, chat.text);
    return chat;
  }

 private:
  struct Entry {
    std::shared_ptr<const detail::jinja::Template> parsed;
    std::string problem;  // why it is not parsed
  };

  const detail::jinja::Template& chosen(const ChatOptions& options) const {
    const bool tools = !options.tools.is_null() && templates_.contains("tool_use");
    const std::string name = !options.name.empty() ? options.name : tools ? "tool_use" : "default";
    const auto found = templates_.find(name);
    if (found == templates_.end()) {
      std::vector<std::string> names;
      for (const auto& [known, entry] : templates_) names.push_back(known);
      fail<TokenizerError>("ChatTemplate", "no template \"{}\"; there {} {}", name, names.size() == 1 ? "is" : "are",
                           fmt::join(names, ", "));
    }
    if (!found->second.parsed) throw TokenizerError(found->second.problem);
    return *found->second.parsed;
  }

  detail::jinja::Template::Rendered rendered(const nlohmann::ordered_json& messages, const ChatOptions& options) const {
    using detail::jinja::from_json;
    if (!messages.is_array()) {
      fail<TokenizerError>("ChatTemplate", "messages: expected an array of objects, got {}", messages.type_name());
    }
    std::map<std::string, detail::jinja::Value, std::less<>> variables;
    variables["documents"] = detail::jinja::None{};
    for (const nlohmann::ordered_json* given : {&variables_, &options.variables}) {
      if (!given->is_object()) fail<TokenizerError>("ChatTemplate", "variables: expected an object, got {}", given->type_name());
      for (const auto& [name, value] : given->items()) variables[name] = from_json(value);
    }
    variables["messages"] = from_json(messages);
    variables["tools"] = from_json(options.tools);
    variables["add_generation_prompt"] = options.add_generation_prompt;
    if (options.now) variables["strftime_now"] = detail::jinja::clock_function(*options.now);
    return chosen(options).render(std::move(variables));
  }

  /// The turns by their difference: a chat up to a message, and one with it, both begin the whole.
  std::vector<TextRange> turns_of_assistant(const nlohmann::ordered_json& messages, ChatOptions options,
                                            std::string_view whole) const {
    std::vector<TextRange> turns;
    const auto eos = variables_.find("eos_token");
    const std::string end_token = eos != variables_.end() && eos->is_string() ? eos->get<std::string>() : "";
    auto begun = nlohmann::ordered_json::array();
    for (const auto& message : messages) {
      const bool answers = message.is_object() && message.contains("role") && message["role"] == "assistant";
      options.add_generation_prompt = true;
      const std::string before = answers ? render(begun, options) : "";
      begun.push_back(message);
      if (!answers) continue;
      options.add_generation_prompt = false;
      std::string with = render(begun, options);
      // Some templates end a chat, whatever its last turn is, with the end token.
      if (!whole.starts_with(with) && with.ends_with(end_token)) with.resize(with.size() - end_token.size());
      if (!whole.starts_with(before) || !whole.starts_with(with) || with.size() < before.size()) {
        fail<TokenizerError>("ChatTemplate",
                             "messages[{}]: the chat up to this message, rendered alone, is not how the whole chat begins; where its "
                             "turn lies cannot be told (train on chats that end with it, or on a template with {{% generation %}})",
                             begun.size() - 1);
      }
      turns.push_back({before.size(), with.size()});
    }
    return turns;
  }

  std::map<std::string, Entry> templates_;
  nlohmann::ordered_json variables_;
};

}  // namespace reft
