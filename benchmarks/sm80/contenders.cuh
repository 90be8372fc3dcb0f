#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "check.cuh"
#include "cuda/instance.h"

// The contenders that are not compiled from CUTLASS.

inline std::vector<Contender> ours(const std::vector<fusedops::Instance>& instances,
                                   fusedops::DType dtype) {
  int multiprocessors;
  CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  std::vector<Contender> all;
  for (const fusedops::Instance& instance : instances) {
    if (instance.dtype != dtype) continue;
    const std::string name = std::string(instance.kernel) + " " + instance.label;
    all.push_back({"ours", name, instance.shared_memory, [=](const Operands& o) {
                     fusedops::GemmArgs args{};
                     args.x = o.x;
                     args.weight = o.weight;
                     args.bias = o.bias;
                     args.out = o.out;
                     args.scale = o.scale;
                     args.multiprocessors = multiprocessors;
                     args.problem.m = o.m;
                     args.problem.n = o.n;
                     args.problem.k = o.k;
                     args.problem.dtype = dtype;
                     args.problem.bias_dtype = dtype;
                     args.problem.x_stride_m = o.x_stride;
                     args.problem.w_stride_n = o.w_stride;
                     args.problem.x_stride_k = args.problem.w_stride_k = 1;
                     return instance.launch(args);
                   }});
  }
  return all;
}

// Cubins that triton_sm89.py wrote, with their index.
inline std::vector<Contender> triton(const std::string& folder) {
  std::vector<Contender> all;
  std::ifstream index(folder + "/index.txt");
  std::string name, entry;
  int block_m, block_n, block_k, warps, shared;
  while (index >> name >> entry >> block_m >> block_n >> block_k >> warps >> shared) {
    cudaLibrary_t library;
    cudaKernel_t kernel;
    const std::string file = folder + "/" + name + ".cubin";
    CHECK(
        cudaLibraryLoadFromFile(&library, file.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    CHECK(cudaLibraryGetKernel(&kernel, library, entry.c_str()));
    const void* function = reinterpret_cast<const void*>(kernel);
    CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
    all.push_back({"triton", name, shared, [=](const Operands& o) {
                     // What Triton was told when it compiled: whole K tiles, aligned sizes.
                     if (o.k % block_k || o.n % 16) return cudaErrorNotSupported;
                     Operands copy = o;
                     double scale = o.scale;
                     int64_t m = o.m, n = o.n;
                     void* scratch = nullptr;
                     void* arguments[] = {
                         &copy.x, &copy.weight, &copy.bias,     &copy.out,      &scale,   &m,
                         &n,      &copy.k,      &copy.x_stride, &copy.w_stride, &scratch, &scratch};
                     const int tiles_m = (o.m + block_m - 1) / block_m;
                     const int tiles_n = (o.n + block_n - 1) / block_n;
                     return cudaLaunchKernel(function, tiles_m * tiles_n, 32 * warps, arguments,
                                             shared, nullptr);
                   }});
  }
  return all;
}

// cudaDataType_t and cublasComputeType_t, of which only these are needed.
enum class CublasType { float16 = 2, bfloat16 = 14 };
enum class CublasSums { float16 = 64, float32 = 68 };

// The bare product on whatever cuBLAS likes best (wgmma on Hopper): a yardstick, not a peer.
inline std::vector<Contender> cublas(CublasType type, CublasSums sums) {
  void* library = nullptr;
  for (const char* path : {static_cast<const char*>(std::getenv("CUBLAS_LIBRARY")),
                           "libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13"}) {
    if (path != nullptr && library == nullptr) library = dlopen(path, RTLD_NOW);
  }
  if (library == nullptr) return {};
  using Create = int (*)(void**);
  using Gemm = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int,
                       const void*, int, int, const void*, void*, int, int, int, int);
  const auto create = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
  const auto gemm = reinterpret_cast<Gemm>(dlsym(library, "cublasGemmEx"));
  void* handle = nullptr;
  if (create == nullptr || gemm == nullptr || create(&handle) != 0) return {};
  const int dtype = int(type), compute = int(sums);
  return {{"cublas", "cublas", 0, [=](const Operands& o) {
             const float one = 1, zero = 0;
             const uint16_t half_one = 0x3C00, half_zero = 0;
             const bool half = compute == int(CublasSums::float16);
             const void* alpha = half ? static_cast<const void*>(&half_one) : &one;
             const void* beta = half ? static_cast<const void*>(&half_zero) : &zero;
             constexpr int kTransposed = 1, kPlain = 0, kDefaultAlgorithm = -1;
             return gemm(handle, kTransposed, kPlain, o.n, o.m, o.k, alpha, o.weight, dtype,
                         int(o.w_stride), o.x, dtype, int(o.x_stride), beta, o.out, dtype, o.n,
                         compute, kDefaultAlgorithm) == 0
                        ? cudaSuccess
                        : cudaErrorUnknown;
           }}};
}
