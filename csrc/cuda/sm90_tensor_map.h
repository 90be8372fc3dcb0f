#pragma once

#include <cuda.h>

#include <cstdint>

#include "common/problem.h"

namespace fusedops::sm90 {

// A row-major matrix as TMA sees it, cut into boxes of box_rows x box_columns.
struct MatrixView {
  const void* data;
  DType dtype;
  int64_t rows, columns;
  int64_t row_stride;  // elements
  int box_rows, box_columns;
};

// False when the driver has no tensor maps or refuses this one.
bool encode_tensor_map(const MatrixView& view, CUtensorMap& map);

}  // namespace fusedops::sm90
