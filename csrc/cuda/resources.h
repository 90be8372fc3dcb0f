#pragma once

#include <string>
#include <vector>

namespace fusedops {

// What ptxas reported of one entry function for one architecture.
struct CompiledResources {
  const char* entry_symbol;
  const char* architecture;  // "sm_89"
  int registers;             // a thread
  int spill_bytes;           // stores and loads
  int static_shared;         // bytes a block
  int barriers;
};

// Generated from the ptxas reports of this build.
const std::vector<CompiledResources>& compiled_resources();

struct Occupancy {
  int blocks, warps;    // on one multiprocessor
  std::string limiter;  // "registers", "shared memory", "warps", "blocks" or "barriers"
};

// Of blocks of so many threads, with so many bytes of dynamic shared memory.
Occupancy occupancy(int threads, int shared_memory, const CompiledResources& resources);

}  // namespace fusedops
