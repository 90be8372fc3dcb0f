// CUTLASS 2.x kernels for sm_80 with this operator as their epilogue: the peers of cuda.sm80_*.
// The bias is the C operand with a row stride of zero, so that the epilogue is one functor and the
// output is stored once.

#include <cutlass/array.h>
#include <cutlass/gemm/device/gemm_universal.h>
#include <cutlass/layout/matrix.h>
#include <cutlass/numeric_conversion.h>

#include "contender.h"
#include "cuda/epilogues.cuh"

namespace {

template <class Element_, class Accumulator_>
struct SigmoidResidualOutput {
  using ElementOutput = Element_;
  using ElementAccumulator = Accumulator_;
  using ElementCompute = float;
  static constexpr int kCount = 16 / sizeof(Element_);
  using FragmentOutput = cutlass::Array<Element_, kCount>;
  using FragmentAccumulator = cutlass::Array<Accumulator_, kCount>;

  struct Params {
    float scale;
  };
  fusedops::SigmoidResidual epilogue;

  CUTLASS_HOST_DEVICE explicit SigmoidResidualOutput(const Params& params)
      : epilogue{params.scale} {}
  CUTLASS_HOST_DEVICE bool is_source_needed() const { return true; }
  CUTLASS_HOST_DEVICE void set_k_partition(int, int) {}

  CUTLASS_DEVICE FragmentOutput operator()(const FragmentAccumulator& accumulator,
                                           const FragmentOutput& bias) const {
    cutlass::Array<float, kCount> y;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kCount; ++i) y[i] = epilogue(float(accumulator[i]), float(bias[i]));
    return cutlass::NumericArrayConverter<Element_, float, kCount>{}(y);
  }
  CUTLASS_DEVICE FragmentOutput operator()(const FragmentAccumulator& accumulator) const {
    FragmentOutput none;
    none.clear();
    return (*this)(accumulator, none);
  }
};

template <class Element, class Accumulator, int M, int N, int K, int WarpM, int WarpN, int Stages>
Contender contender() {
  using cutlass::gemm::GemmShape;
  using Output = SigmoidResidualOutput<Element, Accumulator>;
  using Gemm = cutlass::gemm::device::GemmUniversal<
      Element, cutlass::layout::RowMajor, Element, cutlass::layout::ColumnMajor, Element,
      cutlass::layout::RowMajor, Accumulator, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
      GemmShape<M, N, K>, GemmShape<WarpM, WarpN, K>, GemmShape<16, 8, 16>, Output,
      cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<8>, Stages>;
  const std::string name = std::to_string(M) + "x" + std::to_string(N) + "x" + std::to_string(K) +
                           "_s" + std::to_string(Stages) + "_w" + std::to_string(WarpM) + "x" +
                           std::to_string(WarpN);
  const int shared_memory = int(sizeof(typename Gemm::GemmKernel::SharedStorage));
  return {"cutlass", name, shared_memory, [](const Operands& o) {
            typename Gemm::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGemm,
                                               {o.m, o.n, o.k},
                                               1,
                                               typename Output::Params{o.scale},
                                               o.x,
                                               o.weight,
                                               o.bias,
                                               o.out,
                                               0,
                                               0,
                                               0,
                                               0,
                                               o.x_stride,
                                               o.w_stride,
                                               0,
                                               o.n};
            Gemm gemm;
            if (gemm.initialize(arguments) != cutlass::Status::kSuccess) {
              return cudaErrorInvalidValue;
            }
            return gemm.run() == cutlass::Status::kSuccess ? cudaGetLastError()
                                                           : cudaErrorLaunchFailure;
          }};
}

}  // namespace

#define BF16 cutlass::bfloat16_t, float
#define FP16 cutlass::half_t, cutlass::half_t

std::vector<Contender> cutlass_bf16() {
  return {
      contender<BF16, 128, 128, 32, 64, 64, 3>(),
      contender<BF16, 128, 128, 32, 64, 64, 4>(),
      contender<BF16, 128, 128, 32, 64, 64, 5>(),
      contender<BF16, 128, 256, 32, 64, 64, 3>(),
      contender<BF16, 128, 256, 32, 64, 64, 4>(),
      contender<BF16, 256, 128, 32, 64, 64, 3>(),
      contender<BF16, 256, 128, 32, 64, 64, 4>(),
      contender<BF16, 128, 128, 64, 64, 64, 3>(),
      contender<BF16, 128, 128, 64, 64, 32, 3>(),
      contender<BF16, 128, 128, 64, 32, 64, 3>(),
      contender<BF16, 128, 64, 64, 64, 32, 3>(),
      contender<BF16, 64, 128, 64, 32, 64, 3>(),
      contender<BF16, 256, 64, 32, 64, 64, 4>(),
      contender<BF16, 64, 256, 32, 64, 64, 4>(),
      contender<BF16, 64, 64, 64, 32, 32, 5>(),
      // More shared memory than an sm_89 has.
      contender<BF16, 128, 128, 64, 64, 64, 4>(),
      contender<BF16, 128, 256, 64, 64, 64, 3>(),
      contender<BF16, 256, 128, 64, 64, 64, 3>(),
  };
}

std::vector<Contender> cutlass_fp16_accumulation() {
  return {
      contender<FP16, 128, 128, 32, 64, 64, 4>(), contender<FP16, 128, 256, 32, 64, 64, 3>(),
      contender<FP16, 256, 128, 32, 64, 64, 3>(), contender<FP16, 128, 128, 64, 64, 64, 3>(),
      contender<FP16, 128, 64, 64, 64, 32, 3>(),  contender<FP16, 64, 64, 64, 32, 32, 5>(),
  };
}
