#include "blocked.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <algorithm>
#include <array>

#include "parallel.h"

namespace fusedops::cpu {
namespace {

constexpr int64_t kBlockBytes = 1 << 20;  // z of one block: still in L2 when the epilogue reads it
constexpr int64_t kLeastRows = 128;       // the GEMM packs the weight anew for every block

struct DeleteTensor {
  void operator()(AtenTensorOpaque* tensor) const { aoti_torch_delete_tensor_object(tensor); }
};

using TensorView = std::unique_ptr<AtenTensorOpaque, DeleteTensor>;

struct Matrix {
  const void* data;
  int64_t row_stride, column_stride;
};

TensorView view(const Matrix& matrix, int64_t rows, int64_t columns, bool is_double) {
  const std::array<int64_t, 2> sizes = {rows, columns};
  const std::array<int64_t, 2> strides = {matrix.row_stride, matrix.column_stride};
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(
      const_cast<void*>(matrix.data), 2, sizes.data(), strides.data(), 0,
      is_double ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32(),
      aoti_torch_device_type_cpu(), 0, &handle));
  return TensorView(handle);
}

const void* advance(const void* data, int64_t elements, int64_t element_bytes) {
  return static_cast<const char*>(data) + elements * element_bytes;
}

// A dense float copy of rows [begin, end) of a half-precision matrix, in the order it lies in.
class Widened {
 public:
  Widened(Widen widen, const Matrix& source, int64_t rows, int64_t columns)
      : widen_(widen),
        source_(source),
        columns_(columns),
        by_columns_(source.row_stride == 1),
        dense_{nullptr, by_columns_ ? 1 : columns, by_columns_ ? rows : 1},
        buffer_(allocate(rows * columns * 4)) {
    dense_.data = buffer_.get();
  }

  const Matrix& dense() const { return dense_; }

  void fill(int64_t begin, int64_t end) const {
    if (by_columns_) {
      for (int64_t j = 0; j < columns_; ++j) copy(begin, j, end - begin);
    } else if (source_.column_stride == 1) {
      for (int64_t i = begin; i < end; ++i) copy(i, 0, columns_);
    } else {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < columns_; ++j) copy(i, j, 1);
      }
    }
  }

  // The next block of rows, into the same buffer.
  void move_to(const void* data) { source_.data = data; }

 private:
  void copy(int64_t i, int64_t j, int64_t count) const {
    widen_(
        advance(source_.data, i * source_.row_stride + j * source_.column_stride, 2),
        reinterpret_cast<float*>(buffer_.get()) + i * dense_.row_stride + j * dense_.column_stride,
        count);
  }

  Widen widen_;
  Matrix source_;
  int64_t columns_;
  bool by_columns_;
  Matrix dense_;
  Buffer buffer_;
};

class TorchGemm {
 public:
  TorchGemm(const Isa& isa, const Problem& problem, const Operands& operands)
      : problem_(problem),
        operands_(operands),
        epilogue_(isa.epilogue[static_cast<int>(problem.dtype)]),
        widen_(isa.widen[static_cast<int>(problem.dtype)]),
        element_bytes_(size_of(problem.dtype)),
        z_bytes_(problem.dtype == DType::float64 ? 8 : 4) {}

  void run() const {
    const int64_t threads = thread_count();
    const int64_t rows = block_rows(threads);
    const int64_t blocks = ceil_div(problem_.m, rows);
    const Matrix weight = {operands_.weight, problem_.w_stride_n, problem_.w_stride_k};
    if (!widen_) {
      run_blocks(weight, rows, blocks, threads);
    } else {
      const Widened wide(widen_, weight, problem_.n, problem_.k);
      parallel_for(problem_.n, grain(problem_.k),
                   [&](int64_t begin, int64_t end) { wide.fill(begin, end); });
      run_blocks(wide.dense(), rows, blocks, threads);
    }
  }

 private:
  static int64_t grain(int64_t row_elements) {
    constexpr int64_t elements = 1 << 14;
    return ceil_div(elements, row_elements);
  }

  int64_t block_rows(int64_t threads) const {
    const int64_t cached = std::max(kLeastRows, kBlockBytes / (problem_.n * z_bytes_));
    const int64_t blocks = round_up(ceil_div(problem_.m, cached), threads);
    const int64_t rows = ceil_div(problem_.m, blocks);
    return rows < kLeastRows ? std::min(problem_.m, kLeastRows) : rows;
  }

  // Each thread calls the GEMM, which then runs on that thread alone; a single block gets a GEMM
  // on all threads.
  void run_blocks(const Matrix& weight, int64_t rows, int64_t blocks, int64_t threads) const {
    const auto columns = view({weight.data, weight.column_stride, weight.row_stride}, problem_.k,
                              problem_.n, problem_.dtype == DType::float64);
    if (blocks < threads) {
      run_range(columns.get(), rows, 0, blocks);
    } else {
      parallel_for(blocks, 1,
                   [&](int64_t begin, int64_t end) { run_range(columns.get(), rows, begin, end); });
    }
  }

  void run_range(AtenTensorHandle weight, int64_t rows, int64_t begin, int64_t end) const {
    const Matrix x = {operands_.x, problem_.x_stride_m, problem_.x_stride_k};
    if (!widen_) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t m = b * rows;
        multiply(weight, {row_of_x(m), x.row_stride, x.column_stride}, row_of(operands_.out, m), m,
                 rows);
      }
      return;
    }
    Widened wide(widen_, x, rows, problem_.k);
    const Buffer z = allocate(rows * problem_.n * z_bytes_);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t m = b * rows;
      wide.move_to(row_of_x(m));
      parallel_for(std::min(rows, problem_.m - m), grain(problem_.k),
                   [&](int64_t first, int64_t last) { wide.fill(first, last); });
      multiply(weight, wide.dense(), z.get(), m, rows);
    }
  }

  void multiply(AtenTensorHandle weight, const Matrix& x, void* z, int64_t m, int64_t rows) const {
    const bool is_double = problem_.dtype == DType::float64;
    const int64_t count = std::min(rows, problem_.m - m);
    const auto x_view = view(x, count, problem_.k, is_double);
    const auto z_view = view({z, problem_.n, 1}, count, problem_.n, is_double);
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(z_view.get(), x_view.get(), weight));
    parallel_for(count, grain(problem_.n), [&](int64_t begin, int64_t end) {
      const void* const rows = advance(z, begin * problem_.n, z_bytes_);
      const auto store = [&](double scale, void* all) {
        epilogue_(rows, problem_.n, operands_.bias, scale, row_of(all, m + begin), problem_.n,
                  end - begin, problem_.n);
      };
      if (operands_.z) store(0, operands_.z);
      store(operands_.scale, operands_.out);
    });
  }

  const void* row_of_x(int64_t m) const {
    return advance(operands_.x, m * problem_.x_stride_m, element_bytes_);
  }

  void* row_of(void* result, int64_t m) const {
    return static_cast<char*>(result) + m * problem_.n * element_bytes_;
  }

  const Problem& problem_;
  const Operands& operands_;
  Epilogue epilogue_;
  Widen widen_;
  int64_t element_bytes_, z_bytes_;
};

}  // namespace

void run_torch_gemm(const Isa& isa, const Problem& problem, const Operands& operands) {
  TorchGemm(isa, problem, operands).run();
}

}  // namespace fusedops::cpu
