#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../common/problem.h"

// Everything that is compiled once per instruction set, as tables of functions on raw memory.
// Matrices hold elements of the kernel's dtype; sums, z and the bias are float, or double for
// float64. Strides are in elements.
namespace fusedops::cpu {

constexpr int kDTypes = 4;

// out = round(t + scale * sigmoid(t)), t = z + bias (no bias if null). z and out may be the same.
using Epilogue = void (*)(const void* z, int64_t z_stride, const void* bias, double scale,
                          void* out, int64_t out_stride, int64_t rows, int64_t columns);

// Exact conversion of contiguous elements to float.
using Widen = void (*)(const void* source, float* destination, int64_t count);

// Contiguous rows of grad and of y, or of z where steps is 0; dz = round(grad * dy/dz).
struct BackwardPart {
  const void* grad;
  const void* saved;
  void* dz;           // null: not wanted, as the next two
  void* column_sums;  // float, or double for float64: added to
  double* scale_sum;  // of grad * sigmoid(z)
  double scale;
  int steps;
  int64_t rows, columns;
};

using Backward = void (*)(const BackwardPart& part);

// The inner product of a few packed rows with a few packed columns, and the packing it expects.
// `packed_words(depth)` words of 4 bytes (8 for float64) hold one packed row or column.
struct MicroKernel {
  int rows, columns;
  int elements_per_word;
  // Packing answers whether `multiply` is exact for these elements: false where it would take
  // subnormal ones for zero. It also takes subnormal sums for zero then, and
  // `subnormal_alternative` is the kernel that does neither; null if this one does neither.
  bool (*pack_rows)(const void* x, int64_t stride_m, int64_t stride_k, int64_t rows, int64_t depth,
                    void* packed);
  bool (*pack_columns)(const void* weight, int64_t stride_n, int64_t stride_k, int64_t columns,
                       int64_t depth, void* packed);
  // tile (rows x columns, contiguous) = or += packed rows times packed columns.
  void (*multiply)(const void* packed_rows, const void* packed_columns, int64_t words,
                   bool accumulate, void* tile);
  const MicroKernel* subnormal_alternative;
};

// Whether y = z + scale * sigmoid(z) can be a subnormal float, or differ by a rounding of its
// storage dtype when subnormal parts of z are dropped. Where z is that small, scale * sigmoid(z) is
// scale / 2; if the two cancel, what remains is a multiple of about 2^-48 * scale.
constexpr bool result_may_be_subnormal(double scale) {
  return !(scale > 0x1p-64 || scale < -0x1p-64);
}

struct Isa {
  const char* name;
  std::array<Epilogue, kDTypes> epilogue;
  std::array<Backward, kDTypes> backward;
  std::array<Widen, kDTypes> widen;                     // null for float32 and float64
  std::array<const MicroKernel*, kDTypes> gemm;         // null where torch's own GEMM serves
  std::array<const MicroKernel*, kDTypes> narrow_gemm;  // tiles one vector wide
};

// What this CPU runs, slowest first.
std::vector<const Isa*> available_isas();

const Isa& scalar_isa();
#if defined(__x86_64__)
const Isa& avx2_isa();
const Isa& avx512_isa();
const Isa& avx512_bf16_isa();
#endif

}  // namespace fusedops::cpu
