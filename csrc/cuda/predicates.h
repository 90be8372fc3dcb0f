#pragma once

#include <string>
#include <vector>

#include "cuda/instance.h"

namespace fusedops {

// What every 16-bit tensor-core kernel here asks for: its dtype, a bias it can convert, a
// capability it was compiled for, and operands whose rows are 16-byte aligned with unit stride
// along K.
std::vector<std::string> tensor_core_reasons(const Instance& instance, const Problem& problem);

}  // namespace fusedops
