#pragma once

#include <string>
#include <vector>

#include "cuda/instance.h"

namespace fusedops {

// What every kernel here asks for: its dtype, a bias it can convert, and a capability it was
// compiled for.
std::vector<std::string> common_reasons(const Instance& instance, const Problem& problem);

// What every tensor-core kernel here asks for besides: operands whose rows are 16-byte aligned with
// unit stride along K.
std::vector<std::string> tensor_core_reasons(const Instance& instance, const Problem& problem);

}  // namespace fusedops
