#include <algorithm>
#include <atomic>

#include "blocked.h"
#include "parallel.h"

namespace fusedops::cpu {
namespace {

constexpr int64_t kRowBlockBytes = 384 << 10;       // packed rows of one task: stay in L2
constexpr int64_t kCachedColumnsBytes = 512 << 10;  // packed columns: may stay in L2
constexpr int64_t kSlabBytes = 8 << 20;             // packed columns shared by all tasks: L3
// Words summed in one chain before they join the total. Where all products are equal their
// roundings do not cancel: a chain of 1030 exceeds the error bound, 256 come within 4 % of it.
constexpr int64_t kChainWords = 128;
constexpr int64_t kParallelProducts = 1 << 18;  // below, waking a second thread costs more

// One of the two matrices; its lines are rows of x or of weight.
struct Lines {
  const void* data;
  int64_t count, stride, stride_k;

  const void* from(int64_t line, int64_t element_bytes) const {
    return static_cast<const char*>(data) + line * stride * element_bytes;
  }
};

// The lines of one matrix are the rows of the micro-kernel's tiles, those of the other the columns.
// Packing columns is the dearer one, since they are transposed; `swapped` makes columns of x.
class Packed {
 public:
  Packed(const Problem& problem, const Operands& operands, const MicroKernel& kernel,
         Epilogue epilogue, bool swapped)
      : problem_(problem),
        operands_(operands),
        kernel_(kernel),
        epilogue_(epilogue),
        swapped_(swapped),
        element_bytes_(size_of(problem.dtype)),
        word_bytes_(problem.dtype == DType::float64 ? 8 : 4),
        words_(ceil_div(problem.k, kernel.elements_per_word)),
        panel_bytes_(words_ * kernel.columns * word_bytes_),
        group_bytes_(round_up(words_ * word_bytes_, 64) * kernel.rows),
        tile_bytes_(kernel.rows * kernel.columns * word_bytes_) {
    const Lines x = {operands.x, problem.m, problem.x_stride_m, problem.x_stride_k};
    const Lines weight = {operands.weight, problem.n, problem.w_stride_n, problem.w_stride_k};
    rows_ = swapped ? weight : x;
    columns_ = swapped ? x : weight;
  }

  // False if the result is not exact and has to be computed by the kernel's alternative.
  bool run() const {
    const int64_t threads =
        problem_.m * problem_.n > kParallelProducts / problem_.k ? thread_count() : 1;
    const int64_t panels = ceil_div(columns_.count, kernel_.columns);
    const int64_t slab_panels = std::min(panels, std::max<int64_t>(1, kSlabBytes / panel_bytes_));
    const int64_t groups = ceil_div(rows_.count, kernel_.rows);
    // Either each group of rows meets all columns in turn, or each panel of columns many rows.
    const int64_t block_limit = panels * panel_bytes_ <= kCachedColumnsBytes
                                    ? 1
                                    : std::max<int64_t>(1, kRowBlockBytes / group_bytes_);
    const int64_t blocks = std::min(groups, round_up(ceil_div(groups, block_limit), threads));
    const int64_t block_groups = ceil_div(groups, blocks);

    std::atomic<bool> exact = true;
    const auto require = [&](bool condition) {
      if (!condition) exact.store(false, std::memory_order_relaxed);
    };
    char* const slab = scratch<Scratch::slab>(slab_panels * panel_bytes_);
    for (int64_t first = 0; first < panels; first += slab_panels) {
      const int64_t count = std::min(slab_panels, panels - first);
      parallel_for(count, threads == 1 ? count : 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
          require(pack_panel(first + p, slab + p * panel_bytes_));
        }
      });
      const int64_t parts = std::min(count, ceil_div(threads, blocks));
      const int64_t tasks = blocks * parts;
      parallel_for(tasks, threads == 1 ? tasks : 1, [&](int64_t begin, int64_t end) {
        char* const packed_rows = scratch<Scratch::rows>(block_groups * group_bytes_);
        char* const tiles = scratch<Scratch::tiles>((block_groups + 1) * tile_bytes_);
        for (int64_t task = begin; task < end; ++task) {
          const int64_t block = task / parts, part = task % parts;
          require(multiply_block(groups * block / blocks, groups * (block + 1) / blocks, first,
                                 count * part / parts, count * (part + 1) / parts, slab,
                                 packed_rows, tiles));
        }
      });
      if (!exact) return false;
    }
    return true;
  }

 private:
  bool pack_panel(int64_t panel, char* packed) const {
    const int64_t line = panel * kernel_.columns;
    return kernel_.pack_columns(
        columns_.from(line, element_bytes_), columns_.stride, columns_.stride_k,
        std::min<int64_t>(kernel_.columns, columns_.count - line), problem_.k, packed);
  }

  bool pack_group(int64_t group, char* packed) const {
    const int64_t line = group * kernel_.rows;
    return kernel_.pack_rows(rows_.from(line, element_bytes_), rows_.stride, rows_.stride_k,
                             std::min<int64_t>(kernel_.rows, rows_.count - line), problem_.k,
                             packed);
  }

  // Groups of rows [group, group_end) times panels [panel, panel_end) of the slab.
  bool multiply_block(int64_t group, int64_t group_end, int64_t slab_panel, int64_t panel,
                      int64_t panel_end, const char* slab, char* packed_rows, char* tiles) const {
    const int64_t groups = group_end - group;
    bool exact = true;
    for (int64_t g = 0; g < groups; ++g) {
      exact &= pack_group(group + g, packed_rows + g * group_bytes_);
    }
    for (int64_t p = panel; p < panel_end; ++p) {
      for (int64_t k = 0; k < words_; k += kChainWords) {
        const int64_t depth = std::min(kChainWords, words_ - k);
        const char* columns = slab + p * panel_bytes_ + k * kernel_.columns * word_bytes_;
        for (int64_t g = 0; g < groups; ++g) {
          char* tile = tiles + g * tile_bytes_;
          kernel_.multiply(packed_rows + g * group_bytes_ + k * kernel_.rows * word_bytes_, columns,
                           depth, k > 0, tile);
          if (k + depth == words_) {
            finish(tile, tiles + groups * tile_bytes_, group + g, slab_panel + p);
          }
        }
      }
    }
    return exact;
  }

  void finish(char* tile, char* spare_tile, int64_t group, int64_t panel) const {
    const int64_t row = group * kernel_.rows, column = panel * kernel_.columns;
    const int64_t rows = std::min<int64_t>(kernel_.rows, rows_.count - row);
    const int64_t columns = std::min<int64_t>(kernel_.columns, columns_.count - column);
    if (!swapped_) {
      store(tile, kernel_.columns, row, column, rows, columns);
    } else if (word_bytes_ == 4) {
      transpose<uint32_t>(tile, spare_tile, columns);
      store(spare_tile, kernel_.rows, column, row, columns, rows);
    } else {
      transpose<uint64_t>(tile, spare_tile, columns);
      store(spare_tile, kernel_.rows, column, row, columns, rows);
    }
  }

  template <class Word>
  void transpose(const char* tile, char* transposed, int64_t columns) const {
    const auto* from = reinterpret_cast<const Word*>(tile);
    auto* to = reinterpret_cast<Word*>(transposed);
    for (int64_t j = 0; j < columns; ++j) {
      for (int i = 0; i < kernel_.rows; ++i) {
        to[j * kernel_.rows + i] = from[i * kernel_.columns + j];
      }
    }
  }

  void store(const char* z, int64_t z_stride, int64_t m, int64_t n, int64_t rows,
             int64_t columns) const {
    const auto* all = static_cast<const char*>(operands_.bias);
    const char* const bias = all ? all + n * word_bytes_ : nullptr;
    const int64_t place = (m * problem_.n + n) * element_bytes_;
    if (operands_.z) {
      epilogue_(z, z_stride, bias, 0, static_cast<char*>(operands_.z) + place, problem_.n, rows,
                columns);
    }
    epilogue_(z, z_stride, bias, operands_.scale, static_cast<char*>(operands_.out) + place,
              problem_.n, rows, columns);
  }

  const Problem& problem_;
  const Operands& operands_;
  const MicroKernel& kernel_;
  Epilogue epilogue_;
  bool swapped_;
  int64_t element_bytes_, word_bytes_, words_, panel_bytes_, group_bytes_, tile_bytes_;
  Lines rows_, columns_;
};

}  // namespace

bool prefers_packed(const Isa& isa, const Problem& problem) {
  constexpr int64_t matrix_vector = 4;  // packing a matrix for up to so many vectors does not pay
  const MicroKernel* kernel = isa.gemm[static_cast<int>(problem.dtype)];
  if (!kernel || problem.k > kSlabBytes / (kernel->columns * size_of(problem.dtype))) return false;
  return size_of(problem.dtype) == 2 || std::min(problem.m, problem.n) > matrix_vector;
}

void run_packed(const Isa& isa, const Problem& problem, const Operands& operands,
                bool batch_invariant) {
  const int dtype = static_cast<int>(problem.dtype);
  const bool swapped = problem.m < problem.n;
  const bool narrow = std::min(problem.m, problem.n) <= isa.narrow_gemm[dtype]->columns;
  const MicroKernel& kernel = narrow ? *isa.narrow_gemm[dtype] : *isa.gemm[dtype];
  const MicroKernel* alternative = kernel.subnormal_alternative;
  const auto run = [&](const MicroKernel& chosen) {
    return Packed(problem, operands, chosen, isa.epilogue[dtype], swapped).run();
  };
  // Whether the kernel proper is exact depends on every row.
  if (alternative && (batch_invariant || result_may_be_subnormal(operands.scale))) {
    run(*alternative);
  } else if (!run(kernel)) {
    run(*alternative);
  }
}

}  // namespace fusedops::cpu
