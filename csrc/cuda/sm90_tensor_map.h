#pragma once

#include <cuda.h>

#include <cstdint>

#include "common/problem.h"

namespace fusedops::sm90 {

// A row-major matrix as TMA sees it, cut into boxes of box_rows x box_columns. Rows of a box are
// 128, 64 or 32 bytes, and lie in shared memory in the swizzle of that length.
struct MatrixView {
  const void* data;
  DType dtype;
  int64_t rows, columns;
  int64_t row_stride;  // elements
  int box_rows, box_columns;
  bool widened = true;  // L2 fetches 256 bytes where a box asks for fewer

  bool operator==(const MatrixView& other) const {
    return data == other.data && dtype == other.dtype && rows == other.rows &&
           columns == other.columns && row_stride == other.row_stride &&
           box_rows == other.box_rows && box_columns == other.box_columns &&
           widened == other.widened;
  }
};

// False when the driver has no tensor maps or refuses this one. A map depends on nothing but its
// view, so each thread remembers those it asked for lately instead of asking the driver again.
bool encode_tensor_map(const MatrixView& view, CUtensorMap& map);

}  // namespace fusedops::sm90
