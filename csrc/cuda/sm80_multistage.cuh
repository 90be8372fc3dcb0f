#pragma once

#include "cuda/bias.cuh"
#include "cuda/epilogues.cuh"
#include "cuda/sm80_operand.cuh"
#include "cuda/sm80_primitives.cuh"
#include "cuda/sm80_sums.cuh"

// A GEMM on mma.sync: cp.async fills a ring of swizzled shared-memory stages, ldmatrix feeds the
// tensor cores one step of 16 along K ahead, and results leave through shared memory in 16-byte
// stores. Whatever the tile, a result is one chain over K in steps of 16.

namespace fusedops::sm80 {

template <class Epilogue>
struct Params {
  const void* x;
  const void* weight;
  const void* bias;
  void* out;
  void* z;  // null: not wanted
  int64_t m, n, k;
  int64_t x_stride, weight_stride;  // elements between rows
  int tiles_m, tiles_n;
  int group_m;  // tiles of M that share one sweep over N
  BiasKind bias_kind;
  bool vector_stores;
  Epilogue epilogue;
};

template <class Element_, class Sums_, int TileM_, int TileN_, int TileK_, int Stages_, int WarpsM_,
          int WarpsN_>
struct TileConfig {
  using Element = Element_;
  using Sums = Sums_;
  static constexpr int kTileM = TileM_, kTileN = TileN_, kTileK = TileK_;
  static constexpr int kStages = Stages_;
  static constexpr int kWarpsM = WarpsM_, kWarpsN = WarpsN_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;

  static constexpr int kVectors = kTileK / kVectorElements;  // in a row of a stage
  static constexpr int kRowBytes = kVectors * kVectorBytes;
  static constexpr int kStageBytes = (kTileM + kTileN) * kRowBytes;
  static constexpr int kStagingBytes = 16 * kWarpN * 2;  // rows of results on their way out
  static constexpr int kSharedMemory = kStages * kStageBytes + kTileN * int(sizeof(float));

  static_assert(kStages >= 3 && kTileK % 32 == 0);
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0, "one ldmatrix serves two atoms of weight");
  static_assert(kThreads / 32 * 2 * kStagingBytes <= kStages * kStageBytes,
                "the results reuse the stages");
  static_assert(kSharedMemory <= 99 * 1024, "what one block may hold on sm_86 and sm_89");
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

// One step of 16 along K of a warp's operands, as mma.sync wants them.
template <class Config>
struct Fragments {
  static constexpr int kAtomsM = Config::kWarpM / 16, kAtomsN = Config::kWarpN / 8;
  uint32_t x[kAtomsM][4];
  uint32_t weight[kAtomsN / 2][4];

  // The addresses are this lane's in the warp's first row and the stage's first step.
  __device__ __forceinline__ void load(uint32_t x_address, uint32_t weight_address, int step) {
    const int vector_bits = step * 2 * kVectorBytes;  // XOR, as the swizzle is
#pragma unroll
    for (int i = 0; i < kAtomsM; ++i) {
      load_matrices(x[i], (x_address ^ vector_bits) + i * 16 * Config::kRowBytes);
    }
#pragma unroll
    for (int j = 0; j < kAtomsN / 2; ++j) {
      load_matrices(weight[j], (weight_address ^ vector_bits) + j * 16 * Config::kRowBytes);
    }
  }

  // Back and forth along N, so that neighbouring instructions share an operand.
  template <class Sums>
  __device__ __forceinline__ void multiply_into(Sums& sums) const {
#pragma unroll
    for (int i = 0; i < kAtomsM; ++i) {
#pragma unroll
      for (int along = 0; along < kAtomsN; ++along) {
        const int j = i % 2 ? kAtomsN - 1 - along : along;
        const uint32_t (&pair)[4] = weight[j / 2];
        sums.multiply(i, j, x[i], pair[j % 2 * 2], pair[j % 2 * 2 + 1], typename Config::Element{});
      }
    }
  }
};

// A warp turns its sums into results and stores them, 16 rows at a time through its own piece of
// shared memory: no warp waits for another, and stores overlap the next rows' arithmetic.
template <class Config, class Launched, class Epilogue, class Sums>
__device__ __forceinline__ void store_results(const Params<Launched>& params, void* results,
                                              const Epilogue& epilogue, const Sums& sums,
                                              unsigned char* staging, const float* warp_bias,
                                              int64_t first_row, int64_t first_column) {
  using Element = typename Config::Element;
  constexpr int kVectors = Config::kWarpN / kVectorElements;
  const int lane = threadIdx.x % 32;
  Element* const out = static_cast<Element*>(results) + first_row * params.n + first_column;
  const int rows = int(min(params.m - first_row, int64_t(Config::kWarpM)));
  const int columns = int(min(params.n - first_column, int64_t(Config::kWarpN)));

#pragma unroll
  for (int i = 0; i < Config::kWarpM / 16; ++i) {
    unsigned char* const buffer = staging + i % 2 * Config::kStagingBytes;
#pragma unroll
    for (int j = 0; j < kVectors; ++j) {
      const float2 bias = *reinterpret_cast<const float2*>(warp_bias + j * 8 + lane % 4 * 2);
#pragma unroll
      for (int half = 0; half < 2; ++half) {  // rows r and r + 8 of an atom
        const float y0 = epilogue(sums.sums[i][j][2 * half], bias.x);
        const float y1 = epilogue(sums.sums[i][j][2 * half + 1], bias.y);
        *reinterpret_cast<uint32_t*>(buffer + swizzled<kVectors>(half * 8 + lane / 4, j) +
                                     lane % 4 * 4) = pack(y0, y1, Element{});
      }
    }
    __syncwarp();
    if (params.vector_stores) {
#pragma unroll
      for (int vector = lane; vector < 16 * kVectors; vector += 32) {
        const int row = vector / kVectors, column = vector % kVectors;
        if (i * 16 + row < rows && column * kVectorElements < columns) {
          *reinterpret_cast<uint4*>(out + (i * 16 + row) * params.n + column * kVectorElements) =
              *reinterpret_cast<const uint4*>(buffer + swizzled<kVectors>(row, column));
        }
      }
    } else {
#pragma unroll 1
      for (int element = lane; element < 16 * Config::kWarpN; element += 32) {
        const int row = element / Config::kWarpN, column = element % Config::kWarpN;
        if (i * 16 + row < rows && column < columns) {
          out[(i * 16 + row) * params.n + column] = reinterpret_cast<const Element*>(
              buffer + swizzled<kVectors>(row, column / kVectorElements))[column % kVectorElements];
        }
      }
    }
  }
}

// cp.async brings whole vectors. What a row holds beyond its last whole one is copied here, element
// by element, to where its last tile has arrived with zeros.
template <class Config, class Epilogue>
__device__ __forceinline__ void complete_rows(const Params<Epilogue>& params, unsigned char* stage,
                                              int64_t first_m, int64_t first_n) {
  using Element = typename Config::Element;
  __syncthreads();  // the zeros have been read as the next tile's fragments, to no end
  const int elements = int(params.k % kVectorElements);
  const int64_t k = params.k - elements;
  const int vector = int(k % Config::kTileK) / kVectorElements;
  for (int row = threadIdx.x; row < Config::kTileM + Config::kTileN; row += Config::kThreads) {
    const int64_t x_row = min(first_m + row, params.m - 1);
    const int64_t weight_row = min(first_n + row - Config::kTileM, params.n - 1);
    const Element* const source =
        row < Config::kTileM
            ? static_cast<const Element*>(params.x) + x_row * params.x_stride + k
            : static_cast<const Element*>(params.weight) + weight_row * params.weight_stride + k;
    auto* const vector_begin =
        reinterpret_cast<Element*>(stage + swizzled<Config::kVectors>(row, vector));
    for (int i = 0; i < elements; ++i) vector_begin[i] = source[i];
  }
  __syncthreads();
}

template <class Config, class Epilogue>
__device__ __forceinline__ void multistage(const Params<Epilogue>& params) {
  using Element = typename Config::Element;
  constexpr int kStages = Config::kStages, kStageBytes = Config::kStageBytes;
  constexpr int kLastStage = (kStages - 1) * kStageBytes;
  constexpr int kSteps = Config::kTileK / 16;
  constexpr int kAtomsM = Fragments<Config>::kAtomsM, kAtomsN = Fragments<Config>::kAtomsN;
  constexpr int kPromotionTiles = Config::Sums::kPromotionK / Config::kTileK;
  static_assert(kPromotionTiles * Config::kTileK == Config::Sums::kPromotionK);

  extern __shared__ __align__(1024) unsigned char shared[];
  float* const shared_bias = reinterpret_cast<float*>(shared + kStages * kStageBytes);
  const uint32_t x_stages = shared_address(shared);
  const uint32_t weight_stages = x_stages + Config::kTileM * Config::kRowBytes;

  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int warp_m = warp % Config::kWarpsM * Config::kWarpM;
  const int warp_n = warp / Config::kWarpsM * Config::kWarpN;
  const TileCoordinate tile =
      grouped_tile(blockIdx.x, params.tiles_m, params.tiles_n, params.group_m);
  const int64_t first_m = int64_t(tile.m) * Config::kTileM;
  const int64_t first_n = int64_t(tile.n) * Config::kTileN;

  OperandLoader<Config, Config::kTileM> x(x_stages, params.x, params.x_stride, first_m, params.m);
  OperandLoader<Config, Config::kTileN> weight(weight_stages, params.weight, params.weight_stride,
                                               first_n, params.n);
  // What is left along K at this thread's column of vectors. Copies go on past the end, of zeros,
  // so that their groups can be counted.
  int64_t elements_left = params.k - thread % Config::kVectors * kVectorElements;
  auto load_next_tile = [&](uint32_t stage) {
    const int bytes = elements_left >= kVectorElements ? kVectorBytes : 0;
    x.load_next(stage, bytes);
    weight.load_next(stage, bytes);
    commit_copies();
    elements_left -= Config::kTileK;
  };

#pragma unroll
  for (int t = 0; t < kStages - 1; ++t) load_next_tile(t * kStageBytes);
  const Bias<Element> bias{params.bias, params.bias_kind};
  for (int i = thread; i < Config::kTileN; i += Config::kThreads) {
    shared_bias[i] = first_n + i < params.n ? bias[first_n + i] : 0.0f;
  }

  // ldmatrix takes its four matrices' rows from lanes 0-7, 8-15, 16-23 and 24-31: for x the two
  // halves of 16 rows, then of 16 columns; for weight first the columns, then the rows.
  const uint32_t lane_x = x_stages + swizzled<Config::kVectors>(warp_m + lane % 16, lane / 16);
  const uint32_t lane_weight =
      weight_stages + swizzled<Config::kVectors>(warp_n + lane / 16 * 8 + lane % 8, lane / 8 % 2);

  typename Config::Sums::template Warp<kAtomsM, kAtomsN> sums;
  Fragments<Config> fragments[2];
  uint32_t read_stage = 0, write_stage = kLastStage;
  auto load_fragments = [&](int step) {
    fragments[step % 2].load(lane_x + read_stage, lane_weight + read_stage, step);
  };
  const int k_tiles = int((params.k + Config::kTileK - 1) / Config::kTileK);
  const bool ragged = params.k % kVectorElements != 0;
  const int whole_tiles = ragged ? k_tiles - 1 : k_tiles;
  int until_promotion = kPromotionTiles;
  wait_copies<kStages - 2>();
  __syncthreads();
  load_fragments(0);

#pragma unroll 1
  for (int t = 0; t < whole_tiles; ++t) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int next = (step + 1) % kSteps;
      if (next == 0) {
        // Every fragment of this stage is in registers; the next stage must have arrived. Past the
        // barrier this stage belongs to the loader.
        read_stage = read_stage == kLastStage ? 0 : read_stage + kStageBytes;
        wait_copies<kStages - 2>();
        __syncthreads();
      }
      load_fragments(next);
      if (step == 0) {
        load_next_tile(write_stage);
        write_stage = write_stage == kLastStage ? 0 : write_stage + kStageBytes;
      }
      fragments[step % 2].multiply_into(sums);
    }
    if (kPromotionTiles > 0 && --until_promotion == 0) {
      sums.promote();
      until_promotion = kPromotionTiles;
    }
  }
  if (ragged) {
    complete_rows<Config>(params, shared + read_stage, first_m, first_n);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      load_fragments(step);
      fragments[step % 2].multiply_into(sums);
    }
  }
  sums.promote();

  wait_copies<0>();
  __syncthreads();
  const auto store = [&](void* results, const auto& epilogue) {
    store_results<Config>(params, results, epilogue, sums,
                          shared + warp * 2 * Config::kStagingBytes, shared_bias + warp_n,
                          first_m + warp_m, first_n + warp_n);
  };
  if (params.z != nullptr) {
    store(params.z, Linear{});
    __syncwarp();  // the staging memory is free again
  }
  store(params.out, params.epilogue());
}

}  // namespace fusedops::sm80
