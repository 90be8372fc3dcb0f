#pragma once

#include "epilogue_simd.h"

// Packing and micro-kernel, written once for any vector type V. Internal linkage, as in
// epilogue_simd.h.
//
// Packed columns: word (k, j) at k * Columns + j, so a step along k reads whole vectors.
// Packed rows: chunks of kChunk words along k, word (k, i) at
// (k / kChunk * Rows + i) * kChunk + k % kChunk, so packing x, whose rows run along k, copies
// whole cache lines and the micro-kernel broadcasts from a few of them.
// Missing rows and columns are packed as zeros.
namespace fusedops::cpu {
namespace {

template <class V, class In, int Rows, int VectorsPerRow>
struct PackedGemm {
  using Word = typename V::Scalar;
  using Reg = typename V::Reg;
  static constexpr int kColumns = VectorsPerRow * V::width;
  static constexpr int kChunk = 64 / sizeof(Word);
  static constexpr int kPerWord = V::elements_per_word;
  static_assert(kChunk % V::width == 0);

  static int at_most(int64_t value, int limit) {
    return value < limit ? (value < 0 ? 0 : static_cast<int>(value)) : limit;
  }

  // block[i] = words k..k+width of vector i of `count`; zeros beyond `depth` and `count`.
  static void load_block(Reg (&block)[V::width], const In* source, int64_t stride_vector,
                         int64_t stride_k, int count, int64_t depth) {
    if (stride_k == 1) {
      const int elements = at_most(depth, V::width * kPerWord);
      for (int i = 0; i < V::width; ++i) {
        if (i >= count) {
          block[i] = V::set1(0);
        } else if (elements == V::width * kPerWord) {
          block[i] = V::load(source + i * stride_vector);
        } else {
          block[i] = V::load(source + i * stride_vector, elements);
        }
      }
    } else if (stride_vector == 1 && kPerWord == 1) {
      for (int k = 0; k < V::width; ++k) {
        if (k >= depth) {
          block[k] = V::set1(0);
        } else if (count == V::width) {
          block[k] = V::load(source + k * stride_k);
        } else {
          block[k] = V::load(source + k * stride_k, count);
        }
      }
      V::transpose(block);
    } else {
      for (int i = 0; i < V::width; ++i) {
        In gathered[V::width * kPerWord] = {};
        if (i < count) {
          for (int k = 0; k < V::width * kPerWord && k < depth; ++k) {
            gathered[k] = source[i * stride_vector + k * stride_k];
          }
        }
        block[i] = V::load(gathered);
      }
    }
  }

  static bool pack_rows(const void* x, int64_t stride_m, int64_t stride_k, int64_t rows,
                        int64_t depth, void* packed_data) {
    const auto* source = static_cast<const In*>(x);
    auto* packed = static_cast<Word*>(packed_data);
    const int64_t words = (depth + kPerWord - 1) / kPerWord;
    bool exact = true;
    for (int64_t k = 0; k < words; k += V::width) {
      Word* column = packed + k / kChunk * Rows * kChunk + k % kChunk;
      for (int i = 0; i < Rows; i += V::width) {
        Reg block[V::width];
        load_block(block, source + i * stride_m + k * kPerWord * stride_k, stride_m, stride_k,
                   at_most(rows - i, V::width), depth - k * kPerWord);
        for (int r = 0; r < V::width && i + r < Rows; ++r) {
          exact &= V::multiplies_exactly(block[r]);
          V::store(column + (i + r) * kChunk, block[r]);
        }
      }
    }
    return exact;
  }

  static bool pack_columns(const void* weight, int64_t stride_n, int64_t stride_k, int64_t columns,
                           int64_t depth, void* packed_data) {
    const auto* source = static_cast<const In*>(weight);
    auto* packed = static_cast<Word*>(packed_data);
    const int64_t words = (depth + kPerWord - 1) / kPerWord;
    bool exact = true;
    for (int64_t k = 0; k < words; k += V::width) {
      const int steps = at_most(words - k, V::width);
      for (int j = 0; j < kColumns; j += V::width) {
        Reg block[V::width];
        load_block(block, source + j * stride_n + k * kPerWord * stride_k, stride_n, stride_k,
                   at_most(columns - j, V::width), depth - k * kPerWord);
        V::transpose(block);
        for (int step = 0; step < steps; ++step) {
          exact &= V::multiplies_exactly(block[step]);
          V::store(packed + (k + step) * kColumns + j, block[step]);
        }
      }
    }
    return exact;
  }

  static inline __attribute__((always_inline)) void step(Reg (&sum)[Rows][VectorsPerRow],
                                                         const Word* rows, const Word* columns) {
    Reg column[VectorsPerRow];
#pragma GCC unroll 8
    for (int v = 0; v < VectorsPerRow; ++v) column[v] = V::load(columns + v * V::width);
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
      const Reg row = V::set1(rows[i * kChunk]);
#pragma GCC unroll 8
      for (int v = 0; v < VectorsPerRow; ++v) {
        sum[i][v] = V::multiply_add(row, column[v], sum[i][v]);
      }
    }
  }

  static void multiply(const void* rows_data, const void* columns_data, int64_t words,
                       bool accumulate, void* tile_data) {
    const auto* rows = static_cast<const Word*>(rows_data);
    const auto* columns = static_cast<const Word*>(columns_data);
    auto* tile = static_cast<Word*>(tile_data);
    Reg sum[Rows][VectorsPerRow];
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < VectorsPerRow; ++v) {
        sum[i][v] = V::set1(0);
      }
    }
    for (; words >= kChunk; words -= kChunk) {
#pragma GCC unroll 4
      for (int k = 0; k < kChunk; ++k, columns += kColumns) step(sum, rows + k, columns);
      rows += Rows * kChunk;
    }
    for (int k = 0; k < words; ++k, columns += kColumns) step(sum, rows + k, columns);
#pragma GCC unroll 32
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < VectorsPerRow; ++v) {
        Word* total = tile + i * kColumns + v * V::width;
        V::store(total, accumulate ? V::add(V::load(total), sum[i][v]) : sum[i][v]);
      }
    }
  }

  static constexpr MicroKernel table = {Rows,         kColumns, kPerWord, pack_rows,
                                        pack_columns, multiply, nullptr};
};

template <class F32, class F64, int Rows, int VectorsPerRow>
constexpr std::array<const MicroKernel*, kDTypes> micro_kernels() {
  return {&PackedGemm<F32, Float16, Rows, VectorsPerRow>::table,
          &PackedGemm<F32, BFloat16, Rows, VectorsPerRow>::table,
          &PackedGemm<F32, float, Rows, VectorsPerRow>::table,
          &PackedGemm<F64, double, Rows, VectorsPerRow>::table};
}

}  // namespace
}  // namespace fusedops::cpu
