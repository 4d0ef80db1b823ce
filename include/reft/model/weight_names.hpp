#pragma once

#include <string>
#include <string_view>

namespace reft {

/// What a Hugging Face file calls each parameter; the defaults are Llama's. Empty: the family has no such tensor.
/// Names of a layer stand behind "<base><layers><index>.", those of the embedding and the final norm behind <base>.
struct WeightNames {
  std::string_view base = "model.";  ///< files of a bare base model leave it out
  std::string_view embedding = "embed_tokens", positions = "", token_types = "", embedding_norm = "";
  std::string_view layers = "layers.", final_norm = "norm";

  std::string_view query = "self_attn.q_proj", key = "self_attn.k_proj", value = "self_attn.v_proj";
  std::string_view query_key_value = "";     ///< one tensor for the three
  std::string_view attention_output = "self_attn.o_proj";
  std::string_view query_norm = "self_attn.q_norm", key_norm = "self_attn.k_norm";

  std::string_view gate = "mlp.gate_proj", up = "mlp.up_proj";
  std::string_view gate_up = "";             ///< one tensor for the two
  std::string_view down = "mlp.down_proj";
  std::string_view router = "", experts = "";  ///< `gate`, `up`, `down` are then behind "<experts>.<index>."

  std::string_view attention_input_norm = "input_layernorm", attention_output_norm = "";
  std::string_view mlp_input_norm = "post_attention_layernorm", mlp_output_norm = "";

  std::string_view language_head = "lm_head";
  std::string_view masked_transform = "", masked_norm = "", masked_bias = "";  ///< in front of an encoder's `language_head`
  std::string_view classifier_transform = "", classifier = "score";            ///< full names, `base` included

  bool transposed = false;  ///< matrices of layers are stored (in, out)
  bool by_head = false;     ///< `query_key_value` holds q, k, v of head 0, then of head 1, …
};

}  // namespace reft
