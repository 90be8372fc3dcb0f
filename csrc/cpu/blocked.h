#pragma once

#include <cstdint>

#include "../common/problem.h"
#include "isa.h"

namespace fusedops::cpu {

struct Operands {
  const void* x;
  const void* weight;
  const void* bias;  // contiguous, float or for float64 double; null for none
  double scale;
  void* out;
  void* z;  // as out, for z itself; null if it is not wanted
};

// Which of the two is faster here.
bool prefers_packed(const Isa& isa, const Problem& problem);

// out[m, n] = epilogue(x, weight): rows of x times rows of weight, by the packed micro-kernel.
// Where `batch_invariant`, the bits of a row depend neither on the other rows nor on M.
void run_packed(const Isa& isa, const Problem& problem, const Operands& operands,
                bool batch_invariant);

// The same, by torch's GEMM on blocks of rows, with the epilogue on each block while it is in
// cache.
void run_torch_gemm(const Isa& isa, const Problem& problem, const Operands& operands);

}  // namespace fusedops::cpu
