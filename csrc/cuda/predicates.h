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

// The same, and operands with unit stride along K.
std::vector<std::string> rows_along_k_reasons(const Instance& instance, const Problem& problem);

// The same, and rows that are 16-byte aligned: what every tensor-core kernel here asks for.
std::vector<std::string> tensor_core_reasons(const Instance& instance, const Problem& problem);

}  // namespace fusedops
