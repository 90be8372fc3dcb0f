// Every kernel made of mma.sync against every other: ours, CUTLASS 2.x, Triton's compiled for
// sm_89, and cuBLAS as the yardstick. Checks each against a float64 oracle, then times all of them
// interleaved, with a cold L2. Needs no torch. benchmarks/sm80_contest.sh builds and runs it.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <dlfcn.h>
#include <math_constants.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <sstream>

#include "cuda/sm80_primitives.cuh"
#include "sm80_contender.h"

#define CHECK(call)                                                         \
  do {                                                                      \
    const cudaError_t error_ = (call);                                      \
    if (error_ != cudaSuccess) {                                            \
      std::printf("CUDA ERROR %s: %s\n", #call, cudaGetErrorString(error_)); \
      std::fflush(stdout);                                                  \
      std::_Exit(3);                                                        \
    }                                                                       \
  } while (0)

__device__ uint32_t mixed(uint64_t value) {
  value = (value ^ value >> 33) * 0xff51afd7ed558ccdULL;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ULL;
  return static_cast<uint32_t>(value ^ value >> 33);
}

enum class Kind { normal, positive, tiny };  // one sign: truncation adds up; tiny: float16 underflows

// rows x columns of random numbers at a row stride; NaN between and around them.
template <class T>
__global__ void fill(T* data, int64_t rows, int64_t columns, int64_t stride, float sigma,
                     uint64_t seed, Kind kind) {
  for (int64_t i = blockIdx.x * int64_t{256} + threadIdx.x; i < (rows + 2) * stride;
       i += gridDim.x * 256LL) {
    const int64_t row = i / stride - 1, column = i % stride;
    const float u = (mixed(2 * i + (seed << 40)) >> 8) * 0x1p-24f + 0x1p-25f;
    const float v = (mixed(2 * i + 1 + (seed << 40)) >> 8) * 0x1p-24f;
    const bool inside = row >= 0 && row < rows && column < columns;
    float value = kind == Kind::positive ? v : sqrtf(-2 * logf(u)) * cospif(2 * v);
    if (kind == Kind::tiny) value *= 1e-3f;
    data[i] = T(inside ? sigma * value : CUDART_NAN_F);
  }
}

// A kernel's part of the bound of docs/numerics.md.
struct Bound {
  double unit_roundoff, chain, spacing;
};

// The largest error over the bound of docs/numerics.md; infinity for NaN.
template <class T>
__global__ void compare(Operands o, double u_out, Bound b, int64_t samples,
                        int64_t step, unsigned long long* worst) {
  const T *x = (const T*)o.x, *w = (const T*)o.weight, *bias = (const T*)o.bias;
  for (int64_t i = blockIdx.x * int64_t{256} + threadIdx.x; i < samples; i += gridDim.x * 256LL) {
    const int64_t at = i * step % (int64_t(o.m) * o.n), row = at / o.n, column = at % o.n;
    double z = double(float(bias[column])), magnitude = fabs(z);
    for (int64_t k = 0; k < o.k; ++k) {
      const double product =
          double(float(x[row * o.x_stride + k])) * double(float(w[column * o.w_stride + k]));
      z += product;
      magnitude += fabs(product);
    }
    const double sigmoid = 1 / (1 + exp(-z)), want = z + o.scale * sigmoid;
    const double bound =
        u_out * fabs(want) +
        (1 + fabs(o.scale) / 4) * ((4 * sqrt(o.k + 2.0) + b.chain * o.k) * b.unit_roundoff * magnitude +
                                   (o.k + 15) / 16 * b.spacing / 2) +
        8 * 0x1p-24 * fabs(o.scale) * sigmoid + 1e-30;
    const double error = fabs(double(float(((const T*)o.out)[at])) - want) / bound;
    atomicMax(worst, __double_as_longlong(error >= 0 ? error : CUDART_INF));
  }
}

template <class T>
struct Data {
  static constexpr int64_t kCanary = 4096;
  T *x, *w, *bias, *out;
  Operands operands;
  Data(int m, int n, int k, int pad, Kind kind = Kind::normal) {
    const int64_t sx = (k + 7) / 8 * 8 + pad, sw = (k + 7) / 8 * 8 + pad / 2 / 8 * 8;
    CHECK(cudaMalloc(&x, (m + 2) * sx * 2));
    CHECK(cudaMalloc(&w, (n + 2) * sw * 2));
    CHECK(cudaMalloc(&bias, (3 * n + 24) * 2));
    CHECK(cudaMalloc(&out, (int64_t(m) * n + 2 * kCanary) * 2));
    const int64_t sb = (n + 7) / 8 * 8;
    fill<<<1024, 256>>>(x, m, k, sx, 1.0f, 1, kind);
    fill<<<1024, 256>>>(w, n, k, sw, 1.0f / std::sqrt(float(k)), 2, kind);
    fill<<<64, 256>>>(bias, 1, n, sb, 1.0f, 3, kind);
    operands = {x + sx, w + sw, bias + sb, out + kCanary, m, n, k, sx, sw, 2.0f};
    CHECK(cudaDeviceSynchronize());
  }
  ~Data() {
    cudaFree(x), cudaFree(w), cudaFree(bias), cudaFree(out);
  }
};

template <class T>
double worst_error(const Contender& contender, const Data<T>& data, Bound bound) {
  const Operands& o = data.operands;
  const int64_t count = int64_t(o.m) * o.n, guarded = count + 2 * Data<T>::kCanary;
  CHECK(cudaMemset(data.out, 0xFF, guarded * 2));
  CHECK(contender.launch(o));
  CHECK(cudaDeviceSynchronize());
  std::vector<uint16_t> bits(guarded), again(guarded);
  CHECK(cudaMemcpy(bits.data(), data.out, guarded * 2, cudaMemcpyDeviceToHost));
  for (int64_t i = 0; i < guarded; ++i) {
    const bool inside = i >= Data<T>::kCanary && i < count + Data<T>::kCanary;
    if (inside == (bits[i] == 0xFFFF)) return NAN;  // unwritten, or written outside
  }
  CHECK(contender.launch(o));
  CHECK(cudaMemcpy(again.data(), data.out, guarded * 2, cudaMemcpyDeviceToHost));
  if (bits != again) return NAN;  // not the same bits run to run
  unsigned long long* worst;
  CHECK(cudaMalloc(&worst, 8));
  CHECK(cudaMemset(worst, 0, 8));
  const int64_t samples = std::min<int64_t>(count, int64_t(4e8 / o.k));
  compare<T><<<2048, 256>>>(o, std::is_same_v<T, __half> ? 0x1p-11 : 0x1p-8, bound, samples,
                            samples == count ? 1 : 1000003, worst);
  double result;
  CHECK(cudaMemcpy(&result, worst, 8, cudaMemcpyDeviceToHost));
  CHECK(cudaFree(worst));
  return result;
}

// ---- contenders that are not linked in ----

// PTX or cubins that benchmarks/triton_sm89.py wrote, with their index.
std::vector<Contender> triton(const std::string& folder) {
  std::vector<Contender> all;
  std::ifstream index(folder + "/index.txt");
  std::string name, entry;
  int block_m, block_n, block_k, warps, shared;
  while (index >> name >> entry >> block_m >> block_n >> block_k >> warps >> shared) {
    cudaLibrary_t library;
    cudaKernel_t kernel;
    std::string file = folder + "/" + name + ".cubin";
    if (!std::ifstream(file)) file = folder + "/" + name + ".ptx";
    CHECK(cudaLibraryLoadFromFile(&library, file.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    CHECK(cudaLibraryGetKernel(&kernel, library, entry.c_str()));
    const void* function = reinterpret_cast<const void*>(kernel);
    CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
    all.push_back({name, shared, [=](const Operands& o) {
                     // What Triton was told when it compiled: whole K tiles, aligned sizes.
                     if (o.k % block_k || o.n % 16) return cudaErrorNotSupported;
                     Operands copy = o;
                     double scale = o.scale;
                     int64_t m = o.m, n = o.n;
                     void* scratch = nullptr;
                     void* arguments[] = {&copy.x, &copy.weight, &copy.bias,     &copy.out,
                                          &scale,  &m,           &n,             &copy.k,
                                          &copy.x_stride, &copy.w_stride, &scratch, &scratch};
                     const int tiles = (o.m + block_m - 1) / block_m * ((o.n + block_n - 1) / block_n);
                     return cudaLaunchKernel(function, tiles, 32 * warps, arguments, shared, nullptr);
                   }});
  }
  return all;
}

// The bare product, without bias or epilogue; compute is 68 (float32 sums) or 64 (float16 sums).
std::vector<Contender> cublas(int type, int compute) {
  void* library = nullptr;
  for (const char* path : {std::getenv("CUBLAS_LIBRARY"), (char*)"libcublas.so.13", (char*)"/usr/local/cuda/lib64/libcublas.so.13"}) {
    if (path && !library) library = dlopen(path, RTLD_NOW);
  }
  if (!library) return {};
  auto create = reinterpret_cast<int (*)(void**)>(dlsym(library, "cublasCreate_v2"));
  auto gemm = reinterpret_cast<int (*)(void*, int, int, int, int, int, const void*, const void*, int,
                                       int, const void*, int, int, const void*, void*, int, int, int,
                                       int)>(dlsym(library, "cublasGemmEx"));
  void* handle = nullptr;
  if (!create || !gemm || create(&handle) != 0) return {};
  return {{"cublas", 0, [=](const Operands& o) {
             const float one = 1, zero = 0;
             const uint16_t half_one = 0x3C00, half_zero = 0;
             const bool half = compute == 64;
             const int status =
                 gemm(handle, 1, 0, o.n, o.m, o.k, half ? (const void*)&half_one : &one, o.weight,
                      type, int(o.w_stride), o.x, type, int(o.x_stride),
                      half ? (const void*)&half_zero : &zero, o.out, type, o.n, compute, -1);
             return status == 0 ? cudaSuccess : cudaErrorUnknown;
           }}};
}

// ---- what the instruction itself gives ----

template <class Sum, class Element, bool kLoad>
__global__ void __launch_bounds__(256) instruction_rate(int rounds, bool random, uint32_t* sink) {
  using namespace fusedops::sm80;
  extern __shared__ __align__(1024) unsigned char shared[];
  constexpr int kRegisters = sizeof(Sum) == 4 && std::is_same_v<Sum, float> ? 4 : 2;
  Sum sums[4][8][kRegisters] = {};
  uint32_t a[2][4][4], b[2][4][4];
  // Numbers between 1 and 2 of either sign: how much power a product draws depends on its bits.
  const uint32_t kept = random ? 0x807F807F : 0, base = random ? 0x3F803F80 : 0;
  for (int i = 0; i < 32; ++i) {
    reinterpret_cast<uint32_t*>(a)[i] = (mixed(i + 64 * threadIdx.x) & kept) | base;
    reinterpret_cast<uint32_t*>(b)[i] = (mixed(i + 32 + 64 * threadIdx.x) & kept) | base;
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t x = shared_address(shared) + lane % 16 * 64 + ((lane / 16) ^ (lane / 2 % 4)) * 16;
  for (int i = threadIdx.x; i < 32768 / 4; i += blockDim.x) reinterpret_cast<uint32_t*>(shared)[i] = (mixed(i) & kept) | base;
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      if constexpr (kLoad) {
        const uint32_t from = x ^ (step * 32);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          load_matrices(a[1 - step][i], from + i * 1024 + (warp % 2) * 4096);
          load_matrices(b[1 - step][i], from + i * 1024 + 8192 + (warp / 2) * 4096);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          multiply(sums[i][j], a[step][i], b[step][j / 2][j % 2 * 2], b[step][j / 2][j % 2 * 2 + 1],
                   Element{});
        }
      }
    }
  }
  uint32_t any = 0;
  for (auto& row : sums)
    for (auto& sum : row)
      for (auto& value : sum) any |= reinterpret_cast<uint32_t&>(value);
  if (any == 0x12345678) *sink = any;
}

template <class Sum, class Element, bool kLoad>
void report_rate(const char* what, int multiprocessors, int threads, int blocks, bool random) {
  auto* kernel = &instruction_rate<Sum, Element, kLoad>;
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  constexpr int kRounds = 4000;
  uint32_t* sink;
  CHECK(cudaMalloc(&sink, 4));
  float best = 1e9f;
  for (int i = 0; i < 5; ++i) {
    CHECK(cudaEventRecord(begin));
    kernel<<<multiprocessors * blocks, threads, 32768>>>(kRounds, random, sink);
    CHECK(cudaEventRecord(end));
    CHECK(cudaDeviceSynchronize());
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  const double flops = 2.0 * 64 * 64 * 32 * kRounds * (threads / 32) * blocks * multiprocessors;
  std::printf("RATE %-26s %s data, %2d warps an SM: %7.1f TFLOP/s\n", what,
              random ? "random" : "zero", threads / 32 * blocks, flops / best * 1e-9);
}

// ---- the contest ----

struct Shape {
  int m, n, k;
};

template <class T>
void contest(const char* title, const std::vector<Contender>& all, const std::vector<Shape>& shapes,
             int rounds, FILE* csv, Bound bound, bool odd_shapes) {
  std::vector<Shape> checked = {{128, 256, 64}, {300, 776, 72}, {1000, 1024, 1000}, {130, 264, 2048}, {130, 264, 16384}};
  if (odd_shapes) checked.insert(checked.end(), {{1, 8, 8}, {257, 513, 1031}, {1, 777, 65}, {129, 257, 1}, {300, 774, 200}});
  std::map<std::string, bool> right;
  for (const Contender& each : all) {
    right[each.name] = true;
    if (each.name == "cublas" || each.name.compare(0, 8, "ablation") == 0) continue;
    double worst = 0;
    for (const Kind kind : {Kind::normal, Kind::positive, Kind::tiny})
    for (const Shape& s : checked) {
      const bool peer = each.name.compare(0, 7, "cutlass") == 0 || each.name.compare(0, 6, "triton") == 0;
      if (peer && (s.k % 8 || s.n % 8 || (each.name[0] == 't' && (s.k % 128 || s.n % 16)))) continue;
      Data<T> data(s.m, s.n, s.k, peer && each.name[0] == 't' ? 16 : 24, kind);
      const double error = worst_error(each, data, bound);
      if (!(error <= 1)) {
        std::printf("WRONG %s %s %d %d %d data %d: %g of the bound\n", title, each.name.c_str(), s.m, s.n, s.k, int(kind), error);
        right[each.name] = peer;  // a peer is timed all the same
      }
      worst = std::fmax(worst, error);
    }
    std::fprintf(csv, "check,%s,%s,%.4f\n", title, each.name.c_str(), worst);
  }
  void* flush;
  constexpr size_t kFlush = size_t{256} << 20;
  CHECK(cudaMalloc(&flush, kFlush));
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  for (const Shape& s : shapes) {
    Data<T> data(s.m, s.n, s.k, 0);
    std::vector<std::vector<float>> times(all.size());
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::mt19937 random(1);
    for (int round = -1; round < rounds; ++round) {
      std::shuffle(order.begin(), order.end(), random);  // nobody always follows the same neighbour
      for (const size_t i : order) {
        for (int j = 0; j < 3; ++j) CHECK(cudaMemsetAsync(flush, round + j, kFlush));
        CHECK(cudaEventRecord(begin));
        const cudaError_t status = all[i].launch(data.operands);
        CHECK(cudaEventRecord(end));
        if (status == cudaErrorNotSupported) continue;
        CHECK(status);
        CHECK(cudaEventSynchronize(end));
        float milliseconds;
        CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        if (round >= 0) times[i].push_back(milliseconds * 1e3f);
      }
    }
    struct Row {
      double time;
      size_t index;
    };
    std::map<std::string, std::vector<Row>> families;
    for (size_t i = 0; i < all.size(); ++i) {
      if (times[i].empty() || !right[all[i].name]) continue;
      std::sort(times[i].begin(), times[i].end());
      const double median = times[i][times[i].size() / 2];
      std::fprintf(csv, "time,%s,%d,%d,%d,%s,%d,%.3f,%.3f\n", title, s.m, s.n, s.k,
                   all[i].name.c_str(), all[i].shared_memory, median, times[i][0]);
      std::string family = all[i].name.substr(0, all[i].name.find('_'));
      if (family != "cublas" && all[i].shared_memory > 101376) family += ">99K";
      families[family].push_back({median, i});
    }
    std::printf("%s %d %d %d\n", title, s.m, s.n, s.k);
    for (auto& [family, rows] : families) {
      std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.time < b.time; });
      std::printf("  %-12s", family.c_str());
      for (size_t i = 0; i < std::min<size_t>(3, rows.size()); ++i) {
        std::printf("  %9.2f %s", rows[i].time, all[rows[i].index].name.c_str());
      }
      std::printf("  (%.0f TFLOP/s)\n", 2e-6 * s.m * s.n * s.k / rows[0].time);
    }
    std::fflush(stdout);
  }
  CHECK(cudaFree(flush));
}

// Kernels that add in one order give a row the same bits, whatever their tile and whatever M.
template <class T>
void compare_bits(const char* title, const std::vector<Contender>& all) {
  for (const Shape s : {Shape{300, 776, 1000}, Shape{257, 513, 1031}, Shape{130, 264, 2048}}) {
    Data<T> data(s.m, s.n, s.k, 24);
    std::vector<uint16_t> first, row(s.n), other(int64_t(s.m) * s.n);
    int different = 0, rows_different = 0;
    for (const Contender& each : all) {
      CHECK(each.launch(data.operands));
      CHECK(cudaMemcpy(other.data(), data.operands.out, other.size() * 2, cudaMemcpyDeviceToHost));
      if (first.empty()) first = other;
      different += first != other;
      Operands one = data.operands;
      one.m = 1;
      one.x = static_cast<const T*>(one.x) + 77 * one.x_stride;
      CHECK(each.launch(one));
      CHECK(cudaMemcpy(row.data(), one.out, s.n * 2, cudaMemcpyDeviceToHost));
      rows_different += std::memcmp(row.data(), first.data() + 77 * s.n, s.n * 2) != 0;
    }
    std::printf("BITS %s %d %d %d: %zu kernels, %d differ, %d differ at M = 1\n", title, s.m, s.n,
                s.k, all.size(), different, rows_different);
  }
}

// For compute-sanitizer: operands whose allocations end where their last row ends.
template <class T>
void touch_exactly(const std::vector<Contender>& all) {
  for (const Shape s : {Shape{129, 257, 65}, Shape{16, 40, 7}, Shape{300, 136, 203}}) {
    const int64_t stride = (s.k + 7) / 8 * 8;
    Operands o{nullptr, nullptr, nullptr, nullptr, s.m, s.n, s.k, stride, stride, 2.0f};
    CHECK(cudaMalloc((void**)&o.x, ((s.m - 1) * stride + s.k) * sizeof(T)));
    CHECK(cudaMalloc((void**)&o.weight, ((s.n - 1) * stride + s.k) * sizeof(T)));
    CHECK(cudaMalloc((void**)&o.bias, s.n * sizeof(T)));
    CHECK(cudaMalloc(&o.out, int64_t(s.m) * s.n * sizeof(T)));
    for (const Contender& each : all) CHECK(each.launch(o));
    CHECK(cudaDeviceSynchronize());
    for (void* each : {(void*)o.x, (void*)o.weight, (void*)o.bias, o.out}) CHECK(cudaFree(each));
  }
}

#include "sm80_contest_entries.h"

int main(int argc, char** argv) {
  const std::string ptx = argc > 1 ? argv[1] : "ptx";
  if (ptx == "touch") {
    touch_everything();
    return 0;
  }
  FILE* csv = std::fopen(argc > 2 ? argv[2] : "sm80_contest.csv", "w");
  int multiprocessors;
  CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  for (const bool random : {false, true}) {
    report_rate<float, __nv_bfloat16, false>("float32 sums", multiprocessors, 128, 1, random);
    report_rate<float, __nv_bfloat16, false>("float32 sums", multiprocessors, 256, 1, random);
    report_rate<float, __nv_bfloat16, true>("float32 sums + ldmatrix", multiprocessors, 256, 1, random);
    report_rate<uint32_t, __half, false>("float16 sums", multiprocessors, 256, 1, random);
    report_rate<uint32_t, __half, true>("float16 sums + ldmatrix", multiprocessors, 256, 1, random);
  }
  run_contests(ptx, csv);
  std::fclose(csv);
}
