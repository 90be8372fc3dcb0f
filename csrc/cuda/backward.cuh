#pragma once

#include <type_traits>

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
  void* dz;                  // null: not wanted; so, too, the sums
  void* dbias;               // (n,)
  void* dscale;              // one element
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
template <class Type, int kElements, bool kWhole>
struct Access {
  using Element = Type;
  using Elements = Vector<Element, kElements>;
  static constexpr int kCount = kElements;

  int64_t first;  // column of the first
  int apart;
  int in_strip;  // the first, counted from the strip's beginning
  int valid;     // how many are in the row

  __device__ __forceinline__ Access(int64_t strip_begin, int lane, int lanes, int64_t n)
      : apart(kWhole ? 1 : lanes), in_strip(kWhole ? lane * kCount : lane) {
    first = strip_begin + in_strip;
    const int64_t left = n - first;
    const int64_t count = left <= 0 ? 0 : (left + apart - 1) / apart;
    valid = count < kCount ? static_cast<int>(count) : kCount;
  }

  __device__ __forceinline__ Elements load(const Element* row) const {
    Elements result;
    if constexpr (kWhole) {
      using Bits = std::conditional_t<sizeof(Elements) == 16, uint4, uint2>;
      load_once(row, reinterpret_cast<Bits&>(result));
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        result.elements[i] = i < valid ? row[i * apart] : Element(0.0f);
      }
    }
    return result;
  }

  __device__ __forceinline__ void store(Element* row, const Elements& values) const {
    if constexpr (kWhole) {
      *reinterpret_cast<Elements*>(row) = values;
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

template <class Element, int kSteps>
using SlopeOf = Slope<kSteps, sizeof(Element) == 2>;

// A row's elements of a thread.
template <class Access, int kSteps>
__device__ __forceinline__ void take(const Params& params,
                                     const SlopeOf<typename Access::Element, kSteps>& slope,
                                     const Access& access, int64_t offset,
                                     const typename Access::Elements& grad,
                                     const typename Access::Elements& saved,
                                     Sums<Access::kCount>& sums) {
  constexpr int kCount = Access::kCount;
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
    typename Access::Elements rounded;
    narrow(dz, rounded);
    access.store(static_cast<typename Access::Element*>(params.dz) + offset, rounded);
  }
}

// The rows a thread takes.
struct Rows {
  int64_t offset;  // of the first one's elements
  int64_t apart;   // elements from one to the next
  int64_t left;    // rows of the matrix from the first on
  int64_t turn;    // rows from one to the next
};

// kAhead: the next row is on its way during the arithmetic of one.
template <bool kAhead, class Access, int kSteps>
__device__ __forceinline__ void take_rows(const Params& params,
                                          const SlopeOf<typename Access::Element, kSteps>& slope,
                                          const Access& access, Rows rows,
                                          Sums<Access::kCount>& sums) {
  using Element = typename Access::Element;
  const auto* grads = static_cast<const Element*>(params.grad);
  const auto* saveds = static_cast<const Element*>(params.saved);
  if (!kAhead) {
    for (; rows.left > 0; rows.left -= rows.turn, rows.offset += rows.apart) {
      const auto grad = access.load(grads + rows.offset);
      const auto saved = access.load(saveds + rows.offset);
      take<Access, kSteps>(params, slope, access, rows.offset, grad, saved, sums);
    }
  } else if (rows.left > 0) {
    auto grad = access.load(grads + rows.offset), saved = access.load(saveds + rows.offset);
    while (true) {
      const int64_t offset = rows.offset;
      const auto this_grad = grad, this_saved = saved;
      rows.offset += rows.apart;
      rows.left -= rows.turn;
      if (rows.left > 0) {
        grad = access.load(grads + rows.offset);
        saved = access.load(saveds + rows.offset);
      }
      take<Access, kSteps>(params, slope, access, offset, this_grad, this_saved, sums);
      if (rows.left <= 0) break;
    }
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
template <int kThreads, class Access>
__device__ __forceinline__ void finish_columns(const Params& params, const Place& place,
                                               const Access& access, int row_lane,
                                               const float (&sums)[Access::kCount], float* matrix) {
  constexpr int kCount = Access::kCount;
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

template <class Config, class Element, int kSteps, bool kWhole>
__device__ __forceinline__ void run(const Params& params, float* matrix) {
  constexpr int kThreads = Config::kThreads, kCount = Config::template kElements<Element>;
  const Place place(params);
  const int lanes = 1 << params.strips.lanes_log2;
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int row_lane = static_cast<int>(threadIdx.x) >> params.strips.lanes_log2;
  const int row_lanes = kThreads >> params.strips.lanes_log2;
  const SlopeOf<Element, kSteps> slope(
      params.device_scale ? load_as(params.scale_dtype, params.device_scale) : params.scale);
  const Access<Element, kCount, kWhole> access(static_cast<int64_t>(place.strip) * (lanes * kCount),
                                               lane, lanes, params.n);
  const int64_t first_row = static_cast<int64_t>(place.block) * row_lanes + row_lane;
  const int64_t turn = static_cast<int64_t>(params.strips.blocks_each) * row_lanes;
  Rows rows;
  rows.offset = first_row * params.n + access.first;
  rows.apart = turn * params.n;
  rows.left = params.m - first_row;
  rows.turn = turn;
  Sums<kCount> sums;
  if (access.valid > 0) {
    take_rows<kWhole && Config::kAhead, Access<Element, kCount, kWhole>, kSteps>(
        params, slope, access, rows, sums);
  }
  if (params.dbias) {
    finish_columns<kThreads>(params, place, access, row_lane, sums.columns, matrix);
  }
  if (kSteps == 0 && params.dscale) finish_scale<kThreads>(params, sums.scale, matrix);
}

// Threads of a block, blocks that a multiprocessor should hold, bytes of an access, and whether to
// load ahead.
template <int kThreads_, int kBlocks_, int kBytes_, bool kAhead_>
struct Config {
  static constexpr int kThreads = kThreads_, kBlocks = kBlocks_, kBytes = kBytes_;
  static constexpr bool kAhead = kAhead_;
  template <class Element>
  static constexpr int kElements = kBytes / sizeof(Element);
};

// Measured in docs/performance/backward.md.
template <class Element>
using ConfigOf = Config<1024, 1, 16, true>;

template <class Config, class Element, int kSteps>
__device__ __forceinline__ void run(const Params& params, float* matrix) {
  if (params.in_vectors) {
    run<Config, Element, kSteps, true>(params, matrix);
  } else {
    run<Config, Element, kSteps, false>(params, matrix);
  }
}

template <class Config, class Element>
__device__ __forceinline__ void run(const Params& params) {
  constexpr int kElements = Config::template kElements<Element>;
  __shared__ alignas(16) float matrix[Config::kThreads * (kElements < 4 ? 4 : kElements)];
  if (params.steps == 0) {
    run<Config, Element, 0>(params, matrix);
  } else if (params.steps == 1) {
    run<Config, Element, 1>(params, matrix);
  } else {
    run<Config, Element, 2>(params, matrix);
  }
}

}  // namespace fusedops::backward
