#pragma once

namespace fusedops::sm90 {

struct TilePosition {
  int row, column;
};

// The order in which clusters walk the grid of cluster tiles: bands of `band` rows, down each
// column of a band first, so that the tiles in flight form a near-square patch that reuses L2.
struct TileOrder {
  int rows, columns, band;

  __host__ __device__ int count() const { return rows * columns; }

  __device__ __forceinline__ TilePosition locate(int index) const {
    const int first = index / (band * columns) * band;
    const int in_band = index - first * columns;
    const int height = min(band, rows - first);
    const int column = in_band / height;
    return {first + in_band - column * height, column};
  }
};

}  // namespace fusedops::sm90
