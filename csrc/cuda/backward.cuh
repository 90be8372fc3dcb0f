#pragma once

#include "cuda/block_sums.cuh"
#include "cuda/elements.cuh"
#include "cuda/slope.cuh"
#include "cuda/strips.h"

// dz = grad * dy/dz over a matrix, with the sums of its columns, and of grad * sigmoid(z), in one
// pass and one launch.
//
// Memory is the bottleneck: every element is read and written once, sixteen bytes a thread, and
// the arithmetic must hide behind that. As many blocks as the card holds each take a strip of
// columns, and of its rows every so many: so all of them together sweep over the matrix, and DRAM
// sees long runs. A thread keeps the sums of its own columns in registers over all its rows; in the
// end the block adds them in shared memory, and writes them as a partial sum. The block that
// arrives last at a strip's counter adds the partial sums of all, in the order of their blocks: so
// the bits do not depend on which it is. A counter is back at zero then, for the next launch.
namespace fusedops::backward {

struct Params {
  const void* grad;
  const void* saved;
  void* dz;      // null: not wanted; so, too, the sums
  void* dbias;   // (n,)
  void* dscale;  // one element
  const void* device_scale;  // null: scale is a number
  DType bias_dtype, scale_dtype;
  float scale;
  int steps;
  int64_t m, n;
  bool in_vectors;  // every row starts on, and is, whole vectors
  Strips strips;
  float* column_partials;  // of every strip, a row for every block
  float* scale_partials;   // one for every block
  unsigned* counters;      // one for every strip, and one for dscale: zero before and after
};

// The elements of a thread in a row: a whole vector, or as many that are a strip's lanes apart, so
// that a warp's accesses are adjacent even where rows start anywhere.
template <class Element, bool kWhole>
struct Access {
  static constexpr int kCount = Vector<Element>::kCount;
  int64_t first;   // column of the first
  int apart;
  int in_strip;    // the first, counted from the strip's beginning
  int valid;       // how many are in the row

  __device__ __forceinline__ Access(int64_t strip_begin, int lane, int lanes, int64_t n)
      : apart(kWhole ? 1 : lanes), in_strip(kWhole ? lane * kCount : lane) {
    first = strip_begin + in_strip;
    const int64_t left = n - first;
    const int64_t count = left <= 0 ? 0 : (left + apart - 1) / apart;
    valid = count < kCount ? static_cast<int>(count) : kCount;
  }

  __device__ __forceinline__ Vector<Element> load(const Element* row) const {
    Vector<Element> result;
    if constexpr (kWhole) {
      reinterpret_cast<uint4&>(result) = __ldcs(reinterpret_cast<const uint4*>(row));
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        result.elements[i] = i < valid ? row[i * apart] : Element(0.0f);
      }
    }
    return result;
  }

  __device__ __forceinline__ void store(Element* row, const Vector<Element>& values) const {
    if constexpr (kWhole) {
      *reinterpret_cast<uint4*>(row) = reinterpret_cast<const uint4&>(values);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        if (i < valid) row[i * apart] = values.elements[i];
      }
    }
  }
};

// What a thread has summed.
template <int kCount>
struct Sums {
  float columns[kCount] = {};  // dz's
  float scale = 0.0f;          // grad * sigmoid(z)'s
};

// A row's elements of a thread.
template <class Element, int kSteps, bool kWhole>
__device__ __forceinline__ void take(const Params& params, const Slope<kSteps>& slope,
                                     const Access<Element, kWhole>& access, int64_t offset,
                                     const Vector<Element>& grad, const Vector<Element>& saved,
                                     Sums<Vector<Element>::kCount>& sums) {
  constexpr int kCount = Vector<Element>::kCount;
  float from[kCount], slopes[kCount], sigmoids[kCount], dz[kCount];
  widen(saved, from);
  slope(from, slopes, sigmoids);
  widen(grad, dz);
  if constexpr (kSteps == 0) {
    if (params.dscale) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums.scale += dz[i] * sigmoids[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    dz[i] *= slopes[i];
    sums.columns[i] += dz[i];
  }
  if (params.dz) {
    Vector<Element> rounded;
    narrow(dz, rounded);
    access.store(static_cast<Element*>(params.dz) + offset, rounded);
  }
}

// The rows a thread takes.
struct Rows {
  int64_t offset;  // of the first one's elements
  int64_t apart;   // elements from one to the next
  int64_t count;
};

template <class Element, int kSteps, bool kWhole>
__device__ __forceinline__ void take_rows(const Params& params, const Slope<kSteps>& slope,
                                          const Access<Element, kWhole>& access, Rows rows, char*,
                                          Sums<Vector<Element>::kCount>& sums) {
  for (; rows.count > 0; --rows.count, rows.offset += rows.apart) {
    const auto grad = access.load(static_cast<const Element*>(params.grad) + rows.offset);
    const auto saved = access.load(static_cast<const Element*>(params.saved) + rows.offset);
    take(params, slope, access, rows.offset, grad, saved, sums);
  }
}

// Whole vectors come by way of shared memory, kStages rows ahead of the arithmetic: so many bytes
// must be on their way to keep DRAM busy, and registers could not hold them. Every thread fetches
// and reads its own, so nobody waits for anybody.
template <int kStages, int kThreads>
class Ring {
 public:
  static constexpr int kBytes = kStages * 2 * kThreads * 16;

  __device__ __forceinline__ explicit Ring(char* memory)
      : base_(memory + 16 * threadIdx.x),
        base_address_(static_cast<uint32_t>(__cvta_generic_to_shared(base_))) {}

  __device__ __forceinline__ void fetch(int stage, const void* grad, const void* saved) const {
    copy(base_address_ + stage * kStage, grad);
    copy(base_address_ + stage * kStage + kOperand, saved);
  }

  static __device__ __forceinline__ void commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  // Until all but the last kPending rows are here.
  template <int kPending>
  static __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }

  template <class Value>
  __device__ __forceinline__ void read(int stage, Value& grad, Value& saved) const {
    grad = *reinterpret_cast<const Value*>(base_ + stage * kStage);
    saved = *reinterpret_cast<const Value*>(base_ + stage * kStage + kOperand);
  }

 private:
  static constexpr int kOperand = kThreads * 16, kStage = 2 * kOperand;

  static __device__ __forceinline__ void copy(uint32_t to, const void* from) {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy) : "memory");
  }

  char* base_;
  uint32_t base_address_;
};

template <int kStages, int kThreads, class Element, int kSteps>
__device__ __forceinline__ void take_rows(const Params& params, const Slope<kSteps>& slope,
                                          const Access<Element, true>& access, const Rows& rows,
                                          char* memory, Sums<Vector<Element>::kCount>& sums) {
  const Ring<kStages, kThreads> ring(memory);
  const auto* grad = static_cast<const Element*>(params.grad) + rows.offset;
  const auto* saved = static_cast<const Element*>(params.saved) + rows.offset;
  const auto fetch = [&](int64_t row, int stage) {
    if (row < rows.count) ring.fetch(stage, grad, saved);
    grad += rows.apart;
    saved += rows.apart;
    ring.commit();
  };
#pragma unroll
  for (int row = 0; row < kStages - 1; ++row) fetch(row, row);
  int stage = 0, next = kStages - 1;
  int64_t offset = rows.offset;
  for (int64_t row = 0; row < rows.count; ++row, offset += rows.apart) {
    fetch(row + kStages - 1, next);
    ring.template wait<kStages - 1>();
    Vector<Element> grads, saveds;
    ring.read(stage, grads, saveds);
    take(params, slope, access, offset, grads, saveds, sums);
    next = stage;
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
}

// Which part of the matrix a block takes.
struct Place {
  int strip, block;  // of the strip's

  __device__ __forceinline__ explicit Place(const Params& params)
      : strip(static_cast<int>(blockIdx.x) % params.strips.strips),
        block(static_cast<int>(blockIdx.x) / params.strips.strips) {}
};

// The sums of a strip's columns over this block's rows, and over all where it comes last.
template <int kThreads, class Element, bool kWhole>
__device__ __forceinline__ void finish_columns(const Params& params, const Place& place,
                                               const Access<Element, kWhole>& access, int row_lane,
                                               const float (&sums)[Vector<Element>::kCount],
                                               float* matrix) {
  constexpr int kCount = Vector<Element>::kCount;
  const Strips& strips = params.strips;
  const int columns = kCount << strips.lanes_log2;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    matrix[row_lane * columns + access.in_strip + i * access.apart] = sums[i];
  }
  add_rows(matrix, kThreads >> strips.lanes_log2, columns);
  const int64_t begin = static_cast<int64_t>(place.strip) * columns;
  if (strips.blocks_each > 1) {
    const int64_t apart = static_cast<int64_t>(strips.strips) * columns;
    float* const partials = params.column_partials + begin;
    for (int column = threadIdx.x; column < columns; column += kThreads) {
      partials[place.block * apart + column] = matrix[column];
    }
    if (!arrives_last(params.counters + place.strip, strips.blocks_each)) return;
    add_partial_rows<kThreads>(partials, strips.blocks_each, columns, apart, matrix);
  }
  for (int column = threadIdx.x; column < columns && begin + column < params.n;
       column += kThreads) {
    store_as(params.bias_dtype, params.dbias, begin + column, matrix[column]);
  }
}

template <int kThreads>
__device__ __forceinline__ void finish_scale(const Params& params, float sum, float* spare) {
  sum = add_threads<kThreads>(sum, spare);
  const int blocks = params.strips.strips * params.strips.blocks_each;
  if (blocks > 1) {
    if (threadIdx.x == 0) params.scale_partials[blockIdx.x] = sum;
    if (!arrives_last(params.counters + params.strips.strips, blocks)) return;
    sum = 0.0f;
    for (int block = threadIdx.x; block < blocks; block += kThreads) {
      sum += __ldcg(params.scale_partials + block);
    }
    sum = add_threads<kThreads>(sum, spare);
  }
  if (threadIdx.x == 0) store_as(params.scale_dtype, params.dscale, 0, sum);
}

template <int kThreads, int kStages, class Element, int kSteps, bool kWhole>
__device__ __forceinline__ void run(const Params& params, char* memory) {
  constexpr int kCount = Vector<Element>::kCount;
  const Place place(params);
  const int lanes = 1 << params.strips.lanes_log2;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int row_lane = static_cast<int>(threadIdx.x) >> params.strips.lanes_log2;
  const int row_lanes = kThreads >> params.strips.lanes_log2;
  const Slope<kSteps> slope(params.device_scale ? load_as(params.scale_dtype, params.device_scale)
                                                : params.scale);
  const Access<Element, kWhole> access(static_cast<int64_t>(place.strip) * (lanes * kCount), lane,
                                       lanes, params.n);
  const int64_t first_row = static_cast<int64_t>(place.block) * row_lanes + row_lane;
  const int64_t turn = static_cast<int64_t>(params.strips.blocks_each) * row_lanes;
  Rows rows;
  rows.offset = first_row * params.n + access.first;
  rows.apart = turn * params.n;
  rows.count = first_row < params.m ? (params.m - first_row - 1) / turn + 1 : 0;
  Sums<kCount> sums;
  if (access.valid > 0) {
    if constexpr (kWhole && kStages > 1) {
      take_rows<kStages, kThreads>(params, slope, access, rows, memory, sums);
    } else {
      take_rows(params, slope, access, rows, memory, sums);
    }
  }
  float* const matrix = reinterpret_cast<float*>(memory);
  __syncthreads();
  if (params.dbias) {
    finish_columns<kThreads>(params, place, access, row_lane, sums.columns, matrix);
  }
  if (kSteps == 0 && params.dscale) finish_scale<kThreads>(params, sums.scale, matrix);
}

template <int kThreads, int kStages, class Element, int kSteps>
__device__ __forceinline__ void run(const Params& params, char* memory) {
  if (params.in_vectors) {
    run<kThreads, kStages, Element, kSteps, true>(params, memory);
  } else {
    run<kThreads, kStages, Element, kSteps, false>(params, memory);
  }
}

template <int kThreads, int kStages, class Element>
__device__ __forceinline__ void run(const Params& params) {
  extern __shared__ char memory[];
  if (params.steps == 0) {
    run<kThreads, kStages, Element, 0>(params, memory);
  } else if (params.steps == 1) {
    run<kThreads, kStages, Element, 1>(params, memory);
  } else {
    run<kThreads, kStages, Element, 2>(params, memory);
  }
}

}  // namespace fusedops::backward
