#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>

#include "reft/checkpoint/any_adapter.hpp"
#include "reft/data/tokenize_chat.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft::program {

/// Nothing where the folder has none.
inline std::optional<Tokenizer> find_tokenizer(const std::filesystem::path& model) {
  if (find_tokenizer_files(model).empty()) return std::nullopt;
  return load_tokenizer(model);
}

/// --max-length as tokens: 0 stands for the smaller of 512 and the model's context.
inline int64_t sequence_length(int64_t max_length, const TransformerConfig& config) {
  return max_length > 0 ? max_length : std::min<int64_t>(512, config.max_position_embeddings);
}

/// How a decoder's text becomes tokens: the end token and the chat template are the tokenizer's.
inline TokenizeOptions tokenize_options(const std::string& prompt_template, int64_t max_length, const TransformerConfig& config,
                                        const std::optional<Tokenizer>& tokenizer) {
  TokenizeOptions options{.prompt_template = parse_prompt_template(prompt_template),
                          .max_length = sequence_length(max_length, config),
                          .vocabulary_size = config.vocab_size};
  if (options.prompt_template == PromptTemplate::chat && !(tokenizer && tokenizer->has_chat_template())) {
    fail<ConfigError>("--template", "chat: the model comes without a chat template");
  }
  if (!tokenizer) return options;
  options.eos_token_id = tokenizer->eos_token_id();
  if (tokenizer->has_chat_template()) {
    options.tokenize_chat = [tokenizer](const nlohmann::ordered_json& messages) {
      const RenderedChat chat = tokenizer->chat_template().render_with_assistant(messages);
      return tokenize_chat(chat.text, chat.assistant, [&](std::string_view text) { return tokenizer->encode(text, false); });
    };
  }
  return options;
}

/// What a folder of our own says beside its interventions; nothing of others.
inline AdapterInfo stored_info(const std::string& adapter) {
  if (adapter.empty() || adapter_format(adapter) != AdapterFormat::reft) return {};
  return read_adapter_config(adapter).info;
}

/// An adapter to go on from brings the wording it was trained with.   @throws ConfigError where --template contradicts it.
inline void take_template(const CLI::App& app, const std::string& adapter, std::string& prompt_template) {
  const std::string stored = stored_info(adapter).prompt_template;
  if (stored.empty()) return;
  if (app.count("--template") > 0 && prompt_template != stored) {
    fail<ConfigError>("--init-adapter", "--template {} contradicts {}, where it is {}", prompt_template, adapter, stored);
  }
  prompt_template = stored;
}

}  // namespace reft::program
