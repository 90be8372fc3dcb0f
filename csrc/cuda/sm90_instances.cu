#include <limits>

#include "cuda/predicates.h"
#include "cuda/sm90_predicate.h"

namespace fusedops {

std::vector<Instance> sm90_bf16_instances();
std::vector<Instance> sm90_fp16_instances();

std::vector<Instance> sm90_instances() {
  std::vector<Instance> all = sm90_bf16_instances();
  for (const Instance& instance : sm90_fp16_instances()) all.push_back(instance);
  return all;
}

namespace sm90 {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int>::max();
// TMA coordinates are 32-bit, and the last box may reach past the matrix.
constexpr int64_t kMaxExtent = kMaxInt - 4096;

void check_extent(const char* name, int64_t extent, std::vector<std::string>& reasons) {
  if (extent > kMaxExtent) {
    reasons.push_back(std::string("TMA coordinates reach ") + std::to_string(kMaxExtent) +
                      ", less than " + name + " = " + std::to_string(extent));
  }
}

void check_overlap(const char* operand, int64_t rows, int64_t k, int64_t row_stride,
                   std::vector<std::string>& reasons) {
  if (rows > 1 && row_stride < k) {
    reasons.push_back(std::string("TMA needs rows of ") + operand +
                      " that do not overlap: its row stride, " + std::to_string(row_stride) +
                      " elements, is less than K = " + std::to_string(k));
  }
}

}  // namespace

std::vector<std::string> reasons_against(const Instance& instance, int64_t cluster_rows,
                                         int64_t cluster_columns, int split_k,
                                         const Problem& problem) {
  std::vector<std::string> reasons = tensor_core_reasons(instance, problem);
  check_extent("M", problem.m, reasons);
  check_extent("N", problem.n, reasons);
  check_extent("K", problem.k, reasons);
  check_overlap("x", problem.m, problem.k, problem.x_stride_m, reasons);
  check_overlap("weight", problem.n, problem.k, problem.w_stride_n, reasons);

  const int64_t rows = problem.m / cluster_rows + 1;
  const int64_t columns = problem.n / cluster_columns + 1;
  if (rows > kMaxInt / columns) {
    reasons.push_back("the output has about " + std::to_string(rows) + " x " +
                      std::to_string(columns) + " tiles, more than an int counts");
  }
  const int64_t least_k = int64_t{instance.tile_k} * (split_k - 1) + 1;
  if (problem.k < least_k) {
    reasons.push_back("it splits K " + std::to_string(split_k) + " ways and needs K of at least " +
                      std::to_string(least_k) + ", not " + std::to_string(problem.k));
  }
  return reasons;
}

}  // namespace sm90
}  // namespace fusedops
