#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstring>
#include <optional>
#include <string>

#include "backward.h"
#include "blocked.h"
#include "common/torch_dtype.h"
#include "parallel.h"

namespace {

using fusedops::DType;
using fusedops::dtype_of;
using fusedops::Problem;
using fusedops::cpu::Isa;
using torch::stable::Tensor;

const Isa& fastest_isa() {
  static const Isa& isa = *fusedops::cpu::available_isas().back();
  return isa;
}

const Isa& isa_named(const std::string& name) {
  for (const Isa* isa : fusedops::cpu::available_isas()) {
    if (name == isa->name) return *isa;
  }
  STD_TORCH_CHECK(false, "this CPU has no ", name);
}

// The bias as the epilogue reads it: contiguous, float, or double for float64.
class Bias {
 public:
  Bias(const std::optional<Tensor>& bias, DType x_dtype, int64_t n) {
    if (!bias) return;
    const DType dtype = dtype_of(*bias);
    const bool to_double = x_dtype == DType::float64;
    const auto* source = static_cast<const char*>(bias->data_ptr());
    const int64_t stride = bias->stride(0);
    if (stride == 1 && dtype == (to_double ? DType::float64 : DType::float32)) {
      data_ = source;
      return;
    }
    copy_ = fusedops::cpu::allocate(n * (to_double ? 8 : 4));
    data_ = copy_.get();
    const auto widen = fastest_isa().widen[static_cast<int>(dtype)];
    if (widen && stride == 1) {
      widen(source, reinterpret_cast<float*>(copy_.get()), n);
      return;
    }
    for (int64_t j = 0; j < n; ++j) {
      const char* element = source + j * stride * fusedops::size_of(dtype);
      if (to_double) {
        reinterpret_cast<double*>(copy_.get())[j] = dtype == DType::float64
                                                        ? *reinterpret_cast<const double*>(element)
                                                        : *reinterpret_cast<const float*>(element);
      } else if (widen) {
        widen(element, reinterpret_cast<float*>(copy_.get()) + j, 1);
      } else {
        reinterpret_cast<float*>(copy_.get())[j] = *reinterpret_cast<const float*>(element);
      }
    }
  }

  const void* data() const { return data_; }

 private:
  fusedops::cpu::Buffer copy_;
  const void* data_ = nullptr;
};

enum class Route { automatic, packed, batch_invariant, torch_gemm };

void run(const Isa& isa, Route route, const Tensor& x, const Tensor& weight,
         const std::optional<Tensor>& bias, double scale, const Tensor& out,
         const std::optional<Tensor>& z, int64_t m, int64_t n, int64_t k, int64_t x_stride_m,
         int64_t x_stride_k) {
  const DType dtype = dtype_of(x);
  const Bias wide_bias(bias, dtype, n);
  Problem problem{};
  problem.m = m;
  problem.n = n;
  problem.k = k;
  problem.dtype = dtype;
  if (bias) problem.bias_dtype = dtype_of(*bias);
  problem.x_stride_m = x_stride_m;
  problem.x_stride_k = x_stride_k;
  problem.w_stride_n = weight.stride(0);
  problem.w_stride_k = weight.stride(1);
  problem.alignment = fusedops::size_of(dtype);
  const fusedops::cpu::Operands operands = {
      x.data_ptr(), weight.data_ptr(),      wide_bias.data(),
      scale,        out.mutable_data_ptr(), z ? z->mutable_data_ptr() : nullptr};
  if (route == Route::torch_gemm ||
      (route == Route::automatic && !fusedops::cpu::prefers_packed(isa, problem))) {
    fusedops::cpu::run_torch_gemm(isa, problem, operands);
    return;
  }
  STD_TORCH_CHECK(isa.gemm[static_cast<int>(dtype)], isa.name,
                  " has no packed GEMM, and the one in torch is not batch-invariant");
  fusedops::cpu::run_packed(isa, problem, operands, route == Route::batch_invariant);
}

void launch(Tensor x, Tensor weight, std::optional<Tensor> bias, double scale, Tensor out,
            std::optional<Tensor> z, int64_t m, int64_t n, int64_t k, int64_t x_stride_m,
            int64_t x_stride_k, bool batch_invariant) {
  run(fastest_isa(), batch_invariant ? Route::batch_invariant : Route::automatic, x, weight, bias,
      scale, out, z, m, n, k, x_stride_m, x_stride_k);
}

Route route_named(const std::string& name) {
  if (name == "auto") return Route::automatic;
  if (name == "packed") return Route::packed;
  if (name == "batch_invariant") return Route::batch_invariant;
  STD_TORCH_CHECK(name == "torch", "unknown gemm ", name);
  return Route::torch_gemm;
}

// Tests force every path through this one.
void launch_as(std::string isa, std::string gemm, Tensor x, Tensor weight,
               std::optional<Tensor> bias, double scale, Tensor out, int64_t m, int64_t n,
               int64_t k, int64_t x_stride_m, int64_t x_stride_k) {
  run(isa_named(isa), route_named(gemm), x, weight, bias, scale, out, std::nullopt, m, n, k,
      x_stride_m, x_stride_k);
}

void run_backward(const Isa& isa, const Tensor& grad, const Tensor& saved, double scale,
                  int64_t steps, const std::optional<Tensor>& dz,
                  const std::optional<Tensor>& column_sums, const std::optional<Tensor>& scale_sum,
                  int64_t m, int64_t n) {
  fusedops::cpu::BackwardOperands operands{};
  operands.grad = grad.data_ptr();
  operands.saved = saved.data_ptr();
  operands.scale = scale;
  operands.steps = static_cast<int>(steps);
  if (dz) operands.dz = dz->mutable_data_ptr();
  if (column_sums) operands.column_sums = column_sums->mutable_data_ptr();
  if (scale_sum) operands.scale_sum = static_cast<double*>(scale_sum->mutable_data_ptr());
  fusedops::cpu::run_backward(isa, dtype_of(grad), m, n, operands);
}

void backward(Tensor grad, Tensor saved, double scale, int64_t steps, std::optional<Tensor> dz,
              std::optional<Tensor> column_sums, std::optional<Tensor> scale_sum, int64_t m,
              int64_t n) {
  run_backward(fastest_isa(), grad, saved, scale, steps, dz, column_sums, scale_sum, m, n);
}

void backward_as(std::string isa, Tensor grad, Tensor saved, double scale, int64_t steps,
                 std::optional<Tensor> dz, std::optional<Tensor> column_sums,
                 std::optional<Tensor> scale_sum, int64_t m, int64_t n) {
  run_backward(isa_named(isa), grad, saved, scale, steps, dz, column_sums, scale_sum, m, n);
}

std::string isa() { return fastest_isa().name; }

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa* isa : fusedops::cpu::available_isas()) names.emplace_back(isa->name);
  return names;
}

}  // namespace

STABLE_TORCH_LIBRARY(fusedops_cpu, m) {
  m.def(
      "launch(Tensor x, Tensor weight, Tensor? bias, float scale, Tensor(a!) out, Tensor(b!)? z, "
      "int m, int n, int k, int x_stride_m, int x_stride_k, bool batch_invariant) -> ()");
  m.def(
      "launch_as(str isa, str gemm, Tensor x, Tensor weight, Tensor? bias, float scale, "
      "Tensor(a!) out, int m, int n, int k, int x_stride_m, int x_stride_k) -> ()");
  m.def(
      "backward(Tensor grad, Tensor saved, float scale, int steps, Tensor(a!)? dz, "
      "Tensor(b!)? column_sums, Tensor(c!)? scale_sum, int m, int n) -> ()");
  m.def(
      "backward_as(str isa, Tensor grad, Tensor saved, float scale, int steps, Tensor(a!)? dz, "
      "Tensor(b!)? column_sums, Tensor(c!)? scale_sum, int m, int n) -> ()");
  m.def("isa() -> str");
  m.def("isas() -> str[]");
}

STABLE_TORCH_LIBRARY_IMPL(fusedops_cpu, CPU, m) {
  m.impl("launch", TORCH_BOX(&launch));
  m.impl("launch_as", TORCH_BOX(&launch_as));
  m.impl("backward", TORCH_BOX(&backward));
  m.impl("backward_as", TORCH_BOX(&backward_as));
}

STABLE_TORCH_LIBRARY_IMPL(fusedops_cpu, CompositeExplicitAutograd, m) {
  m.impl("isa", TORCH_BOX(&isa));
  m.impl("isas", TORCH_BOX(&isas));
}
