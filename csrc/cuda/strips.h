#pragma once

#include <algorithm>
#include <cstdint>

namespace fusedops {

// A matrix as strips of columns, and the rows of each dealt out to the same number of blocks.
struct Strips {
  int lanes_log2;  // threads side by side in a row of a strip
  int strips, blocks_each;

  int blocks() const { return strips * blocks_each; }
};

// For a grid that fills the card, of `most` blocks, each with `threads` that hold `elements` of a
// row and take at least `least_rows`. Narrow strips have more blocks to add up partial sums in the
// end; wide ones divide the card more evenly. The narrowest that leaves less than a twentieth idle,
// or else the one that leaves least.
inline Strips strips_of(int64_t m, int64_t n, int threads, int elements, int64_t least_rows,
                        int most, int kWarp = 5) {
  constexpr double kBusy = 0.95;
  Strips best{};
  double busiest = -1;
  for (int lanes = 0; (1 << lanes) <= threads; ++lanes) {
    const int64_t columns = static_cast<int64_t>(elements) << lanes;
    if (columns < n && lanes < kWarp) continue;
    const int64_t strips = (n + columns - 1) / columns;
    const int64_t rows = least_rows * (threads >> lanes);
    const int64_t useful = std::max<int64_t>((m + rows - 1) / rows, 1);
    const int64_t each = std::clamp<int64_t>(most / strips, 1, useful);
    const double covered = static_cast<double>(n) / static_cast<double>(strips * columns);
    const double busy = covered * static_cast<double>(std::min<int64_t>(strips * each, most));
    if (busy > busiest) {
      busiest = busy;
      best = {lanes, static_cast<int>(strips), static_cast<int>(each)};
    }
    if (busy >= kBusy * most || columns >= n) break;
  }
  return best;
}

}  // namespace fusedops
