#pragma once

namespace reft {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace reft
