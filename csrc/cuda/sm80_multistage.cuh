#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cutlass/numeric_types.h>

#include <cstdint>
#include <cute/tensor.hpp>

#include "cuda/bias.cuh"

// A GEMM on mma.sync: cp.async fills a ring of swizzled shared-memory stages, ldmatrix feeds the
// tensor cores one K step ahead, and the epilogue leaves through shared memory in 16-byte stores.

namespace fusedops::sm80 {

template <class Epilogue>
struct Params {
  const void* x;
  const void* weight;
  const void* bias;
  void* out;
  int64_t m, n, k;
  int64_t x_stride, weight_stride;  // elements between rows
  int tiles_m, tiles_n;
  int group_m;  // tiles of M that share one sweep over N
  BiasKind bias_kind;
  bool vector_stores;
  Epilogue epilogue;
};

template <class Element_, int TileM_, int TileN_, int TileK_, int Stages_, int WarpsM_, int WarpsN_>
struct TileConfig {
  using Element = Element_;
  static constexpr int kTileM = TileM_, kTileN = TileN_, kTileK = TileK_;
  static constexpr int kStages = Stages_;
  static constexpr int kWarpsM = WarpsM_, kWarpsN = WarpsN_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kVector = 16 / sizeof(Element);

  using Atom =
      cute::conditional_t<cute::is_same_v<Element, cutlass::half_t>,
                          cute::SM80_16x8x16_F32F16F16F32_TN, cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  // 16 columns a warp, so that one ldmatrix.x4 serves two atoms of B.
  using TiledMma =
      cute::TiledMMA<cute::MMA_Atom<Atom>,
                     cute::Layout<cute::Shape<cute::Int<kWarpsM>, cute::Int<kWarpsN>, cute::_1>>,
                     cute::Tile<cute::Int<16 * kWarpsM>, cute::Int<16 * kWarpsN>, cute::_16>>;

  // Rows of 64 or 128 bytes whose 16-byte vectors are permuted: eight rows of one column of vectors
  // lie in distinct banks.
  template <int Columns>
  using SwizzledRows = cute::conditional_t<
      Columns % 64 == 0,
      decltype(cute::composition(
          cute::Swizzle<3, 3, 3>{},
          cute::Layout<cute::Shape<cute::_8, cute::_64>, cute::Stride<cute::_64, cute::_1>>{})),
      decltype(cute::composition(
          cute::Swizzle<2, 3, 3>{},
          cute::Layout<cute::Shape<cute::_8, cute::_32>, cute::Stride<cute::_32, cute::_1>>{}))>;

  template <int Rows>
  using StagesOf = decltype(cute::tile_to_shape(
      SwizzledRows<kTileK>{},
      cute::Shape<cute::Int<Rows>, cute::Int<kTileK>, cute::Int<kStages>>{}));
  using LayoutA = StagesOf<kTileM>;
  using LayoutB = StagesOf<kTileN>;
  using LayoutOut = decltype(cute::tile_to_shape(
      SwizzledRows<kTileN>{}, cute::Shape<cute::Int<kTileM>, cute::Int<kTileN>>{}));

  // One 16-byte vector a thread, neighbours along a row.
  using VectorThreads =
      cute::Layout<cute::Shape<cute::Int<kThreads * kVector / kTileK>, cute::Int<kTileK / kVector>>,
                   cute::Stride<cute::Int<kTileK / kVector>, cute::_1>>;
  using LoadCopy = decltype(cute::make_tiled_copy(
      cute::Copy_Atom<cute::UniversalCopy<cute::uint128_t>, Element>{}, VectorThreads{},
      cute::Layout<cute::Shape<cute::_1, cute::Int<kVector>>>{}));
  using FragmentCopy = cute::Copy_Atom<cute::SM75_U32x4_LDSM_N, Element>;

  static constexpr int kElementsA = cute::cosize_v<LayoutA>;
  static constexpr int kElementsB = cute::cosize_v<LayoutB>;
  static constexpr int kSharedMemory = (kElementsA + kElementsB) * int(sizeof(Element));

  static_assert(kStages >= 3 && kTileK % 32 == 0 && kTileN % 32 == 0);
  static_assert(kTileM % (16 * kWarpsM) == 0 && kTileN % (16 * kWarpsN) == 0);
  static_assert(kThreads % (kTileK / kVector) == 0);
  static_assert(cute::cosize_v<LayoutOut> <= kElementsA + kElementsB,
                "the output tile reuses the stages");
  static_assert(kSharedMemory <= 99 * 1024, "what one block may hold on sm_86 and sm_89");
};

// Copies `bytes` (0 to 16) to shared memory and zero-fills the rest of the vector.
__device__ __forceinline__ void copy_vector_async(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(
                   cute::cast_smem_ptr_to_uint(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ uint32_t pack(float low, float high, cutlass::half_t) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

__device__ __forceinline__ uint32_t pack(float low, float high, cutlass::bfloat16_t) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

// This thread's vectors of one operand's tile, moved K tile by K tile into its stages.
template <class Config, int Rows, class Stages>
struct TileLoader {
  using Element = typename Config::Element;
  static constexpr int kRowStep = Config::kThreads * Config::kVector / Config::kTileK;
  static constexpr int kVectors = Rows / kRowStep;
  static_assert(Rows % kRowStep == 0 && kVectors <= 32);

  Stages stages;  // (vector, row, column = 1, stage)
  const Element* sources[kVectors];
  uint32_t inside = 0;  // one bit a vector: its row exists
  int column;

  __device__ __forceinline__ TileLoader(Stages const& stages, int thread, const void* operand,
                                        int64_t stride, int64_t first_row, int64_t rows)
      : stages(stages) {
    CUTE_STATIC_ASSERT_V(cute::size<1>(stages) == cute::Int<kVectors>{});
    CUTE_STATIC_ASSERT_V(cute::size<2>(stages) == cute::_1{});
    column = thread % (Config::kTileK / Config::kVector) * Config::kVector;
    const int row = thread / (Config::kTileK / Config::kVector);
    CUTE_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      int64_t source_row = first_row + row + i * kRowStep;
      if (source_row < rows) {
        inside |= 1u << i;
      } else {
        source_row = rows - 1;
      }
      sources[i] = static_cast<const Element*>(operand) + source_row * stride + column;
    }
  }

  __device__ __forceinline__ void load(int stage, int64_t k) {
    CUTE_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      copy_vector_async(&stages(0, i, 0, stage), sources[i] + k, inside >> i & 1 ? 16 : 0);
    }
  }

  // The K tile that may reach past the end of the rows. A partial vector goes through registers, so
  // that nothing outside the operand is addressed.
  __device__ __forceinline__ void load_last(int stage, int64_t k, int remaining) {
    const int elements = min(max(remaining - column, 0), Config::kVector);
    CUTE_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const bool row_exists = inside >> i & 1;
      if (elements == Config::kVector) {
        copy_vector_async(&stages(0, i, 0, stage), sources[i] + k, row_exists ? 16 : 0);
      } else {
        alignas(16) Element vector[Config::kVector];
        CUTE_UNROLL
        for (int j = 0; j < Config::kVector; ++j) {
          vector[j] = row_exists && j < elements ? sources[i][k + j] : Element(0);
        }
        *reinterpret_cast<uint4*>(&stages(0, i, 0, stage)) = reinterpret_cast<uint4&>(vector);
      }
    }
  }
};

struct TileCoordinate {
  int m, n;
};

// Sweeps N within groups of M tiles, so that blocks running together share operands in L2.
__device__ __forceinline__ TileCoordinate grouped_tile(int block, int tiles_m, int tiles_n,
                                                       int group_m) {
  const int group_tiles = group_m * tiles_n;
  const int first_m = block / group_tiles * group_m;
  const int rows = min(group_m, tiles_m - first_m);
  const int within = block % group_tiles;
  return {first_m + within % rows, within / rows};
}

template <class Config, class OutTile>
__device__ __forceinline__ void store_vectors(OutTile const& tile, typename Config::Element* out,
                                              int64_t stride, int rows, int columns) {
  constexpr int kVectorsPerRow = Config::kTileN / Config::kVector;
  CUTE_UNROLL
  for (int i = threadIdx.x; i < Config::kTileM * kVectorsPerRow; i += Config::kThreads) {
    const int row = i / kVectorsPerRow;
    const int column = i % kVectorsPerRow * Config::kVector;
    if (row < rows && column < columns) {
      *reinterpret_cast<uint4*>(out + row * stride + column) =
          *reinterpret_cast<const uint4*>(&tile(row, column));
    }
  }
}

template <class Config, class OutTile>
__device__ __forceinline__ void store_elements(OutTile const& tile, typename Config::Element* out,
                                               int64_t stride, int rows, int columns) {
  CUTE_NO_UNROLL
  for (int i = threadIdx.x; i < Config::kTileM * Config::kTileN; i += Config::kThreads) {
    const int row = i / Config::kTileN;
    const int column = i % Config::kTileN;
    if (row < rows && column < columns) out[row * stride + column] = tile(row, column);
  }
}

template <class Config, class Epilogue>
__device__ __forceinline__ void multistage(const Params<Epilogue>& params) {
  using namespace cute;
  using Element = typename Config::Element;
  constexpr int kStages = Config::kStages;

  extern __shared__ __align__(128) unsigned char shared_memory[];
  Element* const shared = reinterpret_cast<Element*>(shared_memory);
  Tensor sA = make_tensor(make_smem_ptr(shared), typename Config::LayoutA{});
  Tensor sB = make_tensor(make_smem_ptr(shared + Config::kElementsA), typename Config::LayoutB{});

  const int thread = threadIdx.x;
  const TileCoordinate tile =
      grouped_tile(blockIdx.x, params.tiles_m, params.tiles_n, params.group_m);
  const int64_t first_m = int64_t(tile.m) * Config::kTileM;
  const int64_t first_n = int64_t(tile.n) * Config::kTileN;

  auto load_slice = typename Config::LoadCopy{}.get_thread_slice(thread);
  Tensor tAsA = load_slice.partition_D(sA);
  Tensor tBsB = load_slice.partition_D(sB);
  TileLoader<Config, Config::kTileM, decltype(tAsA)> loader_a(tAsA, thread, params.x,
                                                              params.x_stride, first_m, params.m);
  TileLoader<Config, Config::kTileN, decltype(tBsB)> loader_b(
      tBsB, thread, params.weight, params.weight_stride, first_n, params.n);

  const int k_tiles = int((params.k + Config::kTileK - 1) / Config::kTileK);

  // The possibly partial tile comes first: the loop then only sees whole ones, tile t at column
  // (t - 1) * kTileK.
  {
    const int64_t k = int64_t(k_tiles - 1) * Config::kTileK;
    loader_a.load_last(0, k, int(params.k - k));
    loader_b.load_last(0, k, int(params.k - k));
    cp_async_fence();
  }
  CUTE_UNROLL
  for (int t = 1; t < kStages - 1; ++t) {
    if (t < k_tiles) {
      loader_a.load(t, int64_t(t - 1) * Config::kTileK);
      loader_b.load(t, int64_t(t - 1) * Config::kTileK);
    }
    cp_async_fence();
  }

  typename Config::TiledMma mma;
  auto mma_slice = mma.get_thread_slice(thread);
  Tensor tCrA = mma_slice.partition_fragment_A(sA(_, _, 0));
  Tensor tCrB = mma_slice.partition_fragment_B(sB(_, _, 0));
  Tensor accumulators =
      partition_fragment_C(mma, Shape<Int<Config::kTileM>, Int<Config::kTileN>>{});
  clear(accumulators);

  auto fragment_copy_a = make_tiled_copy_A(typename Config::FragmentCopy{}, mma);
  auto fragment_copy_b = make_tiled_copy_B(typename Config::FragmentCopy{}, mma);
  auto fragment_slice_a = fragment_copy_a.get_thread_slice(thread);
  auto fragment_slice_b = fragment_copy_b.get_thread_slice(thread);
  Tensor tXsA = fragment_slice_a.partition_S(sA);
  Tensor tXsB = fragment_slice_b.partition_S(sB);
  Tensor tXrA = fragment_slice_a.retile_D(tCrA);
  Tensor tXrB = fragment_slice_b.retile_D(tCrB);
  constexpr int kSteps = size<2>(tCrA);
  static_assert(kSteps >= 2);

  int read_stage = 0;
  int write_stage = kStages - 1;
  cp_async_wait<kStages - 2>();
  __syncthreads();
  copy(fragment_copy_a, tXsA(_, _, Int<0>{}, read_stage), tXrA(_, _, Int<0>{}));
  copy(fragment_copy_b, tXsB(_, _, Int<0>{}, read_stage), tXrB(_, _, Int<0>{}));

  CUTE_NO_UNROLL
  for (int t = 0; t < k_tiles; ++t) {
    for_each(make_int_sequence<kSteps>{}, [&](auto step) {
      constexpr int kNext = (decltype(step)::value + 1) % kSteps;
      if constexpr (kNext == 0) {
        // Every fragment of this stage is in registers; the next stage must have arrived. Past the
        // barrier this stage belongs to the loader.
        read_stage = read_stage + 1 == kStages ? 0 : read_stage + 1;
        cp_async_wait<kStages - 2>();
        __syncthreads();
      }
      copy(fragment_copy_a, tXsA(_, _, Int<kNext>{}, read_stage), tXrA(_, _, Int<kNext>{}));
      copy(fragment_copy_b, tXsB(_, _, Int<kNext>{}, read_stage), tXrB(_, _, Int<kNext>{}));
      if constexpr (decltype(step)::value == 0) {
        const int loading = t + kStages - 1;
        if (loading < k_tiles) {
          loader_a.load(write_stage, int64_t(loading - 1) * Config::kTileK);
          loader_b.load(write_stage, int64_t(loading - 1) * Config::kTileK);
        }
        cp_async_fence();
        write_stage = write_stage + 1 == kStages ? 0 : write_stage + 1;
      }
      gemm(mma, tCrA(_, _, step), tCrB(_, _, step), accumulators);
    });
  }

  cp_async_wait<0>();
  __syncthreads();

  Tensor sOut = make_tensor(make_smem_ptr(shared), typename Config::LayoutOut{});
  Tensor tCsOut = mma_slice.partition_C(sOut);
  Tensor coordinates = mma_slice.partition_C(
      make_identity_tensor(Shape<Int<Config::kTileM>, Int<Config::kTileN>>{}));
  const Bias<Element> bias{params.bias, params.bias_kind};
  CUTE_UNROLL
  for (int j = 0; j < size<2>(accumulators); ++j) {
    const int64_t column = first_n + get<1>(coordinates(0, 0, j));
    const float bias0 = column < params.n ? bias[column] : 0.0f;
    const float bias1 = column + 1 < params.n ? bias[column + 1] : 0.0f;
    CUTE_UNROLL
    for (int i = 0; i < size<1>(accumulators); ++i) {
      CUTE_UNROLL
      for (int half = 0; half < 2; ++half) {  // rows r and r + 8 of an atom
        const float y0 = params.epilogue(accumulators(make_coord(0, half), i, j), bias0);
        const float y1 = params.epilogue(accumulators(make_coord(1, half), i, j), bias1);
        *reinterpret_cast<uint32_t*>(&tCsOut(make_coord(0, half), i, j)) = pack(y0, y1, Element{});
      }
    }
  }
  __syncthreads();

  Element* const out = static_cast<Element*>(params.out) + first_m * params.n + first_n;
  const int rows = int(min(params.m - first_m, int64_t(Config::kTileM)));
  const int columns = int(min(params.n - first_n, int64_t(Config::kTileN)));
  if (params.vector_stores) {
    store_vectors<Config>(sOut, out, params.n, rows, columns);
  } else {
    store_elements<Config>(sOut, out, params.n, rows, columns);
  }
}

}  // namespace fusedops::sm80
