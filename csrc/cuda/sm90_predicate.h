#pragma once

#include <string>
#include <vector>

#include "cuda/instance.h"

namespace fusedops::sm90 {

constexpr int kCapability = 90;  // sm_90a code runs on this one only

// Every reason an instance of these cluster tiles cannot run the problem.
std::vector<std::string> reasons_against(const Instance& instance, int64_t cluster_rows,
                                         int64_t cluster_columns, int split_k,
                                         const Problem& problem);

}  // namespace fusedops::sm90
