#include "backward.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace fusedops::cpu {
namespace {

constexpr int64_t kLeastElements = 1 << 15;  // of a part
constexpr int64_t kMostParts = 64;

template <class Scalar>
void add_rows(Scalar* rows, int64_t count, int64_t columns, Scalar* sum) {
  std::copy_n(rows, columns, sum);
  for (int64_t row = 1; row < count; ++row) {
    for (int64_t j = 0; j < columns; ++j) sum[j] += rows[row * columns + j];
  }
}

}  // namespace

void run_backward(const Isa& isa, DType dtype, int64_t m, int64_t n,
                  const BackwardOperands& operands) {
  const int64_t element = size_of(dtype), scalar = dtype == DType::float64 ? 8 : 4;
  const int64_t least_rows = ceil_div(kLeastElements, n);
  const int64_t rows = std::max(least_rows, ceil_div(m, kMostParts));
  const int64_t parts = ceil_div(m, rows);
  const Buffer sums = allocate(operands.column_sums ? parts * n * scalar : 0);
  double scale_sums[kMostParts] = {};
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t offset = p * rows * n * element;
      BackwardPart part{};
      part.grad = static_cast<const char*>(operands.grad) + offset;
      part.saved = static_cast<const char*>(operands.saved) + offset;
      if (operands.dz) part.dz = static_cast<char*>(operands.dz) + offset;
      if (operands.column_sums) {
        part.column_sums = sums.get() + p * n * scalar;
        std::memset(part.column_sums, 0, n * scalar);
      }
      if (operands.scale_sum) part.scale_sum = scale_sums + p;
      part.scale = operands.scale;
      part.steps = operands.steps;
      part.rows = std::min(rows, m - p * rows);
      part.columns = n;
      isa.backward[static_cast<int>(dtype)](part);
    }
  });
  if (operands.column_sums && scalar == 8) {
    add_rows(reinterpret_cast<double*>(sums.get()), parts, n,
             static_cast<double*>(operands.column_sums));
  } else if (operands.column_sums) {
    add_rows(reinterpret_cast<float*>(sums.get()), parts, n,
             static_cast<float*>(operands.column_sums));
  }
  if (operands.scale_sum) {
    *operands.scale_sum = 0;
    for (int64_t p = 0; p < parts; ++p) *operands.scale_sum += scale_sums[p];
  }
}

}  // namespace fusedops::cpu
