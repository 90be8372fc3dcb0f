#pragma once

#include <torch/csrc/stable/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fusedops::cpu {

// body(begin, end) on consecutive parts of [0, count) of at least `grain`, on torch's threads.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  const auto call = [](int64_t begin, int64_t end, void* context) {
    (*static_cast<const Body*>(context))(begin, end);
  };
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(0, count, grain, call,
                                            const_cast<void*>(static_cast<const void*>(&body))));
}

inline int64_t thread_count() {
  uint32_t threads = 1;
  TORCH_ERROR_CODE_CHECK(torch_get_num_threads(&threads));
  return threads;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

using Buffer = std::unique_ptr<char, Free>;

inline Buffer allocate(int64_t bytes) {
  constexpr int64_t cache_line = 64;
  const auto rounded = static_cast<size_t>((bytes + cache_line - 1) / cache_line * cache_line);
  void* p = std::aligned_alloc(cache_line, rounded);
  if (!p) throw std::bad_alloc();
  return Buffer(static_cast<char*>(p));
}

enum class Scratch { slab, rows, tiles };

// This thread's memory for one purpose, kept from call to call: fresh pages cost more to touch than
// packing into them. Returned again, with other contents, by the next request for that purpose.
template <Scratch purpose>
char* scratch(int64_t bytes) {
  thread_local Buffer kept;
  thread_local int64_t kept_bytes = 0;
  if (bytes > kept_bytes) {
    kept_bytes = 0;
    kept.reset();
    kept = allocate(bytes);
    kept_bytes = bytes;
  }
  return kept.get();
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t round_up(int64_t a, int64_t multiple) { return ceil_div(a, multiple) * multiple; }

}  // namespace fusedops::cpu
