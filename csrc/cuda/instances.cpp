#include "cuda/instance.h"

namespace fusedops {

namespace sm80 {
std::vector<Instance> fp16_instances();
std::vector<Instance> bf16_instances();
std::vector<Instance> fp16_accumulation_instances();
}  // namespace sm80

std::vector<Instance> sm80_instances() {
  std::vector<Instance> all = sm80::fp16_instances();
  for (const auto& family : {sm80::bf16_instances(), sm80::fp16_accumulation_instances()}) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

const std::vector<Instance>& instances() {
  static const std::vector<Instance> all = [] {
    std::vector<Instance> list = sm80_instances();
    for (const Instance& instance : skinny_instances()) list.push_back(instance);
    for (const Instance& instance : skinny_fp32_instances()) list.push_back(instance);
    for (const Instance& instance : simt_instances()) list.push_back(instance);
#ifdef FUSEDOPS_SM90
    for (const Instance& instance : sm90_fp32_instances()) list.push_back(instance);
    for (const Instance& instance : sm90_tf32_instances()) list.push_back(instance);
    for (const Instance& instance : sm90_instances()) list.push_back(instance);
    for (const Instance& instance : sm90_skinny_instances()) list.push_back(instance);
    for (const Instance& instance : sm90_skinny_fp32_instances()) list.push_back(instance);
#endif
    return list;
  }();
  return all;
}

const char* error_string(cudaError_t error) { return cudaGetErrorString(error); }

int multiprocessor_count() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  thread_local int cached_device = -1;
  thread_local int cached_count = 0;
  if (device != cached_device) {
    if (cudaDeviceGetAttribute(&cached_count, cudaDevAttrMultiProcessorCount, device) !=
        cudaSuccess) {
      return 0;
    }
    cached_device = device;
  }
  return cached_count;
}

}  // namespace fusedops
