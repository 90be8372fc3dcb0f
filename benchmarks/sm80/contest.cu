// Every kernel made of mma.sync against every other: ours, CUTLASS 2.x, Triton's compiled for
// sm_89, and cuBLAS as the yardstick. Checks each against a float64 oracle, then times all of them
// interleaved, with a cold L2. Needs no torch; run.py builds it, runs it and keeps the result.
//   contest FOLDER_OF_TRITON_CUBINS result.csv
//   contest touch        launches on operands without slack, for compute-sanitizer

#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "contenders.cuh"
#include "instruction_rate.cuh"

namespace fusedops::sm80 {
std::vector<Instance> bf16_instances();
std::vector<Instance> fp16_accumulation_instances();
}  // namespace fusedops::sm80

namespace {

constexpr int kAdaSharedMemory = 101376;  // bytes a block
constexpr Bound kFloat32Sums{0x1p-24, 0.125, 0}, kFloat16Chains{0x1p-13, 0, 0x1p-24};

struct Shape {
  int m, n, k;
};

bool is_peer(const Contender& contender) { return contender.family != "ours"; }

template <class T>
void check(const char* title, const std::vector<Contender>& all, Bound bound, FILE* csv) {
  const std::vector<Shape> shapes = {
      {128, 256, 64}, {300, 776, 72},   {1000, 1024, 1000}, {130, 264, 2048}, {130, 264, 16384},
      {1, 8, 8},      {257, 513, 1031}, {1, 777, 65},       {129, 257, 1},    {300, 774, 200}};
  for (const Contender& each : all) {
    if (each.family == "cublas") continue;
    double worst = 0;
    for (const Kind kind : {Kind::normal, Kind::positive, Kind::tiny}) {
      for (const Shape& s : shapes) {
        if (is_peer(each) && (s.k % 8 || s.n % 8)) continue;
        if (each.family == "triton" && (s.k % 128 || s.n % 16)) continue;
        const Data<T> data(s.m, s.n, s.k, each.family == "triton" ? 16 : 24, kind);
        const double error = worst_error(each, data, bound);
        if (!(error <= 1)) {
          std::printf("WRONG %s %s %d %d %d data %d: %g of the bound\n", title, each.name.c_str(),
                      s.m, s.n, s.k, int(kind), error);
        }
        worst = error <= worst ? worst : error;
      }
    }
    std::fprintf(csv, "check,%s,%s,%s,%.4f\n", title, each.family.c_str(), each.name.c_str(),
                 worst);
  }
}

// Kernels that add in one order give a row the same bits, whatever their tile and whatever M.
template <class T>
void compare_bits(const char* title, const std::vector<Contender>& all) {
  for (const Shape s : {Shape{300, 776, 1000}, Shape{257, 513, 1031}, Shape{130, 264, 2048}}) {
    const Data<T> data(s.m, s.n, s.k, 24);
    std::vector<uint16_t> first, row(s.n), other(int64_t(s.m) * s.n);
    int different = 0, rows_different = 0;
    for (const Contender& each : all) {
      CHECK(each.launch(data.operands));
      CHECK(cudaMemcpy(other.data(), data.operands.out, other.size() * 2, cudaMemcpyDeviceToHost));
      if (first.empty()) first = other;
      different += first != other;
      constexpr int kRow = 77;
      Operands one = data.operands;
      one.m = 1;
      one.x = static_cast<const T*>(one.x) + kRow * one.x_stride;
      CHECK(each.launch(one));
      CHECK(cudaMemcpy(row.data(), one.out, s.n * 2, cudaMemcpyDeviceToHost));
      rows_different += std::memcmp(row.data(), first.data() + kRow * s.n, s.n * 2) != 0;
    }
    std::printf("BITS %s %d %d %d: %zu kernels, %d differ, %d differ at M = 1\n", title, s.m, s.n,
                s.k, all.size(), different, rows_different);
  }
}

void report(const char* title, const Shape& s, const std::vector<Contender>& all,
            const std::vector<double>& medians) {
  std::map<std::string, std::vector<size_t>> families;
  for (size_t i = 0; i < all.size(); ++i) {
    const bool too_large = all[i].shared_memory > kAdaSharedMemory;
    if (medians[i] > 0) families[all[i].family + (too_large ? " >99K" : "")].push_back(i);
  }
  std::printf("%s %d %d %d\n", title, s.m, s.n, s.k);
  for (auto& [family, members] : families) {
    std::sort(members.begin(), members.end(),
              [&](size_t a, size_t b) { return medians[a] < medians[b]; });
    std::printf("  %-13s", family.c_str());
    for (size_t i = 0; i < std::min<size_t>(3, members.size()); ++i) {
      std::printf(" %9.2f %s", medians[members[i]], all[members[i]].name.c_str());
    }
    std::printf("  (%.0f TFLOP/s)\n", 2e-6 * s.m * s.n * s.k / medians[members[0]]);
  }
  std::fflush(stdout);
}

template <class T>
void time(const char* title, const std::vector<Contender>& all, const std::vector<Shape>& shapes,
          int rounds, FILE* csv) {
  constexpr size_t kFlush = size_t{256} << 20;
  void* flush;
  CHECK(cudaMalloc(&flush, kFlush));
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  std::mt19937 random(1);
  for (const Shape& s : shapes) {
    const Data<T> data(s.m, s.n, s.k, 0);
    std::vector<std::vector<float>> times(all.size());
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), size_t{0});
    for (int round = -1; round < rounds; ++round) {      // the first warms up
      std::shuffle(order.begin(), order.end(), random);  // nobody always follows the same neighbour
      for (const size_t i : order) {
        for (int j = 0; j < 3; ++j) CHECK(cudaMemsetAsync(flush, round + j, kFlush));
        CHECK(cudaEventRecord(begin));
        const cudaError_t status = all[i].launch(data.operands);
        CHECK(cudaEventRecord(end));
        if (status == cudaErrorNotSupported) continue;
        CHECK(status);
        CHECK(cudaEventSynchronize(end));
        float milliseconds;
        CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
        if (round >= 0) times[i].push_back(milliseconds * 1e3f);
      }
    }
    std::vector<double> medians(all.size(), 0);
    for (size_t i = 0; i < all.size(); ++i) {
      if (times[i].empty()) continue;
      std::sort(times[i].begin(), times[i].end());
      medians[i] = times[i][times[i].size() / 2];
      std::fprintf(csv, "time,%s,%s,%s,%d,%d,%d,%.2f\n", title, all[i].family.c_str(),
                   all[i].name.c_str(), s.m, s.n, s.k, medians[i]);
    }
    report(title, s, all, medians);
  }
  CHECK(cudaFree(flush));
}

// Operands whose allocations end where their last row ends.
template <class T>
void touch(const std::vector<Contender>& all) {
  for (const Shape s : {Shape{129, 257, 65}, Shape{16, 40, 7}, Shape{300, 136, 203}}) {
    const int64_t stride = (s.k + 7) / 8 * 8;
    void *x, *weight, *bias, *out;
    CHECK(cudaMalloc(&x, ((s.m - 1) * stride + s.k) * sizeof(T)));
    CHECK(cudaMalloc(&weight, ((s.n - 1) * stride + s.k) * sizeof(T)));
    CHECK(cudaMalloc(&bias, s.n * sizeof(T)));
    CHECK(cudaMalloc(&out, int64_t(s.m) * s.n * sizeof(T)));
    for (const Contender& each : all) {
      CHECK(each.launch({x, weight, bias, out, s.m, s.n, s.k, stride, stride, 2.0f}));
      CHECK(cudaDeviceSynchronize());
    }
    for (void* pointer : {x, weight, bias, out}) CHECK(cudaFree(pointer));
  }
}

void report_rates(FILE* csv) {
  int multiprocessors;
  CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  const auto line = [&](const char* what, double rate) {
    std::printf("RATE %s: %.1f TFLOP/s\n", what, rate);
    std::fprintf(csv, "rate,%s,%.1f\n", what, rate);
  };
  line("float32 sums", measured_rate<float, __nv_bfloat16, false>(multiprocessors));
  line("float32 sums with ldmatrix", measured_rate<float, __nv_bfloat16, true>(multiprocessors));
  line("float16 sums", measured_rate<uint32_t, __half, false>(multiprocessors));
  line("float16 sums with ldmatrix", measured_rate<uint32_t, __half, true>(multiprocessors));
}

std::vector<Contender> together(std::initializer_list<std::vector<Contender>> groups) {
  std::vector<Contender> all;
  for (const auto& group : groups) all.insert(all.end(), group.begin(), group.end());
  return all;
}

// What the table of the RTX 4090 is carried over from as well.
std::vector<Shape> grid_without(const std::vector<Shape>& timed) {
  std::vector<Shape> shapes;
  const int sides[][2] = {{1024, 1024},  {4096, 4096}, {8192, 8192}, {14336, 4096},
                          {4096, 14336}, {1024, 8192}, {8192, 1024}};
  for (const auto& [n, k] : sides) {
    for (const int m : {64, 128, 256, 512, 1024, 2048, 4096, 16384}) {
      const auto same = [m, n = n, k = k](const Shape& s) {
        return s.m == m && s.n == n && s.k == k;
      };
      if (std::none_of(timed.begin(), timed.end(), same)) shapes.push_back({m, n, k});
    }
  }
  return shapes;
}

}  // namespace

int main(int argc, char** argv) {
  using fusedops::DType;
  const auto bf16 = ours(fusedops::sm80::bf16_instances(), DType::bfloat16);
  const auto float16_sums = ours(fusedops::sm80::fp16_accumulation_instances(), DType::float16);
  if (argc == 2 && std::strcmp(argv[1], "touch") == 0) {
    touch<__nv_bfloat16>(bf16);
    touch<__half>(float16_sums);
    return 0;
  }
  if (argc != 3) {
    std::printf("contest FOLDER_OF_TRITON_CUBINS RESULT.csv | contest touch\n");
    return 2;
  }
  FILE* const csv = std::fopen(argv[2], "w");
  if (csv == nullptr) return 2;
  report_rates(csv);
  const std::vector<Shape> shapes = {
      {1024, 8192, 8192},  {8192, 8192, 8192},  {4096, 4096, 4096},  {2048, 2048, 2048},
      {1024, 1024, 1024},  {16384, 4096, 4096}, {65536, 1024, 1024}, {777, 4096, 4096},
      {512, 4096, 4096},   {128, 4096, 4096},   {4096, 14336, 4096}, {4096, 11008, 4096},
      {2048, 5120, 13824}, {3072, 3072, 12288}, {8192, 1024, 8192},  {4096, 1024, 512}};
  constexpr int kRounds = 11;

  const auto float32_sums = together(
      {bf16, cutlass_bf16(), triton(argv[1]), cublas(CublasType::bfloat16, CublasSums::float32)});
  compare_bits<__nv_bfloat16>("float32 sums", bf16);
  check<__nv_bfloat16>("float32 sums", float32_sums, kFloat32Sums, csv);
  time<__nv_bfloat16>("float32 sums", float32_sums, shapes, kRounds, csv);

  const auto with_peers = together({float16_sums, cutlass_fp16_accumulation(),
                                    cublas(CublasType::float16, CublasSums::float16)});
  compare_bits<__half>("float16 sums", float16_sums);
  check<__half>("float16 sums", float16_sums, kFloat16Chains, csv);
  time<__half>("float16 sums", with_peers, shapes, kRounds, csv);

  const auto rest = grid_without(shapes);
  time<__nv_bfloat16>("float32 sums", bf16, rest, kRounds, csv);
  time<__half>("float16 sums", float16_sums, rest, kRounds, csv);
  std::fclose(csv);
}
