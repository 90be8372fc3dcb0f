#include "isa.h"

namespace fusedops::cpu {

std::vector<const Isa*> available_isas() {
  std::vector<const Isa*> isas = {&scalar_isa()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    isas.push_back(&avx2_isa());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      isas.push_back(&avx512_isa());
      if (__builtin_cpu_supports("avx512bf16")) isas.push_back(&avx512_bf16_isa());
    }
  }
#endif
  return isas;
}

}  // namespace fusedops::cpu
