#pragma once

#include <string>
#include <vector>

#include "cuda/instance.h"

namespace fusedops {

// Why a device of this capability cannot run what was compiled for those from least to most.
std::vector<std::string> capability_reasons(int least, int most, int capability);

// What every GEMM kernel here asks for: its dtype, a bias it can convert, and a capability it was
// compiled for.
std::vector<std::string> common_reasons(const Instance& instance, const Problem& problem);

// What every tensor-core kernel here asks for besides: operands whose rows are 16-byte aligned with
// unit stride along K.
std::vector<std::string> tensor_core_reasons(const Instance& instance, const Problem& problem);

}  // namespace fusedops
