#pragma once

#include <cstdint>

namespace fusedops::sm90 {

// Division of 0 .. 2^31 - 1 by a number known before the launch, as a multiplication.
class Divisor {
 public:
  explicit Divisor(uint32_t divisor) : divisor_(divisor) {
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    // Rounded up: the error stays below 2^shift in 2^(31 + shift), too little to reach the
    // quotient.
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << (31 + shift_)) + divisor - 1) / divisor);
  }

  __device__ __forceinline__ uint32_t quotient(uint32_t dividend) const {
    return static_cast<uint64_t>(dividend) * multiplier_ >> (31 + shift_);
  }

  __host__ __device__ uint32_t value() const { return divisor_; }

 private:
  uint32_t divisor_ = 1, multiplier_ = 0, shift_ = 0;
};

struct TilePosition {
  int row, column;
};

// The order in which clusters walk the grid of cluster tiles: bands of rows, down each column of a
// band first, so that the tiles in flight form a near-square patch that reuses L2.
class TileOrder {
 public:
  TileOrder(int rows, int columns, int band)
      : count_(rows * columns),
        height_(band < rows ? band : rows),
        last_height_(rows % height_.value() == 0 ? height_.value() : rows % height_.value()),
        band_tiles_(static_cast<int64_t>(height_.value()) * columns < count_
                        ? height_.value() * columns
                        : count_) {}

  __host__ __device__ int count() const { return count_; }

  __device__ __forceinline__ TilePosition locate(uint32_t index) const {
    const uint32_t band = band_tiles_.quotient(index);
    const uint32_t in_band = index - band * band_tiles_.value();
    const bool last = (band + 1) * band_tiles_.value() > static_cast<uint32_t>(count_);
    const uint32_t column = last ? last_height_.quotient(in_band) : height_.quotient(in_band);
    const uint32_t row = in_band - column * (last ? last_height_.value() : height_.value());
    return {static_cast<int>(band * height_.value() + row), static_cast<int>(column)};
  }

 private:
  int count_;
  Divisor height_, last_height_;  // of the bands, in tiles
  Divisor band_tiles_;
};

}  // namespace fusedops::sm90
