#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>

#include "common/torch_dtype.h"
#include "cuda/instance.h"

namespace {

using fusedops::DType;
using fusedops::dtype_of;
using fusedops::GemmArgs;
using fusedops::Instance;
using torch::stable::Tensor;

const Instance& instance_at(int64_t index) {
  const auto& all = fusedops::instances();
  STD_TORCH_CHECK(index >= 0 && index < static_cast<int64_t>(all.size()), "instance ", index,
                  " does not exist: the library has ", all.size());
  return all[index];
}

cudaStream_t current_stream(int device) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

// The caller has asked the instance's why_not about this problem.
void launch(int64_t index, const Tensor& x, const Tensor& weight, std::optional<Tensor> bias,
            double scale, const Tensor& out, int64_t m, int64_t n, int64_t k, int64_t x_stride_m,
            int64_t x_stride_k, int64_t w_stride_n, int64_t w_stride_k) {
  const Instance& instance = instance_at(index);
  const DType dtype = dtype_of(x);
  STD_TORCH_CHECK(dtype == instance.dtype, instance.kernel, " ", instance.label, " computes ",
                  name(instance.dtype), ", not ", name(dtype));
  const int device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);

  GemmArgs args{};
  args.x = x.data_ptr();
  args.weight = weight.data_ptr();
  args.out = out.data_ptr();
  args.scale = scale;
  args.problem.m = m;
  args.problem.n = n;
  args.problem.k = k;
  args.problem.dtype = dtype;
  if (bias) {
    args.bias = bias->data_ptr();
    args.problem.bias_dtype = dtype_of(*bias);
  }
  args.problem.x_stride_m = x_stride_m;
  args.problem.x_stride_k = x_stride_k;
  args.problem.w_stride_n = w_stride_n;
  args.problem.w_stride_k = w_stride_k;
  args.multiprocessors = fusedops::multiprocessor_count();
  args.stream = current_stream(device);

  const cudaError_t error = instance.launch(args);
  STD_TORCH_CHECK(error == cudaSuccess, instance.kernel, " ", instance.label,
                  " could not be launched for M = ", m, ", N = ", n, ", K = ", k, ": ",
                  fusedops::error_string(error));
}

}  // namespace

STABLE_TORCH_LIBRARY(fusedops_cuda, library) {
  library.def(
      "launch(int instance, Tensor x, Tensor weight, Tensor? bias, float scale, Tensor(a!) out, "
      "int m, int n, int k, int x_stride_m, int x_stride_k, int w_stride_n, int w_stride_k) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fusedops_cuda, CUDA, library) {
  library.impl("launch", TORCH_BOX(&launch));
}
