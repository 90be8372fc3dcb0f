#pragma once

#include <cstdint>

#include "../common/problem.h"
#include "isa.h"

namespace fusedops::cpu {

struct BackwardOperands {
  const void* grad;
  const void* saved;
  double scale;
  int steps;
  void* dz;           // null where not wanted, as the next two
  void* column_sums;  // float, or double for float64
  double* scale_sum;
};

// The gradient with respect to z of (m, n) contiguous elements, and its sums. How the rows are
// divided, and so the bits, does not depend on the threads.
void run_backward(const Isa& isa, DType dtype, int64_t m, int64_t n,
                  const BackwardOperands& operands);

}  // namespace fusedops::cpu
