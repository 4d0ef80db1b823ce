#pragma once

// Names of the library's main types, for headers that only mention them. Includes nothing of LibTorch.

namespace reft {

class Error;
struct Site;
class Positions;
class Layout;
class ForwardContext;
class HookPoint;
class HookHandle;

class InterventionBase;
class Phase;
struct Attachment;
struct AttachOptions;
class AttachedInterventions;

struct TransformerConfig;
class CausalLM;
class KvCache;
class Tokenizer;

struct Example;
struct RaggedBatch;
struct TrainerOptions;
struct TrainingResult;
class Optimizer;
struct GenerateOptions;
struct GenerationRequest;
struct Continuation;
class RequestBatch;
class PrefixCache;
class AdapterRegistry;

}  // namespace reft
