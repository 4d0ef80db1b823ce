#pragma once

#include <torch/torch.h>

#include "support/catch.hpp"
