#include "catalogue.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <sstream>
#include <stdexcept>
#include <utility>

#ifdef FUSEDOPS_CUDA
#include "launch_function.h"
#endif

namespace py = pybind11;

namespace fusedops {

#ifndef FUSEDOPS_CUDA
std::vector<InstanceDescription> describe_instances() { return {}; }
std::vector<BackwardDescription> describe_backward_instances() { return {}; }
#endif

namespace {

DType dtype_named(const std::string& text) {
  for (DType dtype : {DType::float16, DType::bfloat16, DType::float32, DType::float64}) {
    if (text == name(dtype)) return dtype;
  }
  throw std::invalid_argument("unknown dtype '" + text +
                              "': expected float16, bfloat16, float32 or float64");
}

std::vector<std::string> why_not(const InstanceDescription& instance, int64_t m, int64_t n,
                                 int64_t k, const std::string& dtype,
                                 const std::optional<std::string>& bias_dtype,
                                 std::pair<int64_t, int64_t> x_strides,
                                 std::pair<int64_t, int64_t> weight_strides, int alignment,
                                 std::optional<std::pair<int, int>> capability, bool allow_tf32,
                                 bool allow_fp16_accumulation) {
  Problem problem{};
  problem.m = m;
  problem.n = n;
  problem.k = k;
  problem.dtype = dtype_named(dtype);
  if (bias_dtype) problem.bias_dtype = dtype_named(*bias_dtype);
  std::tie(problem.x_stride_m, problem.x_stride_k) = x_strides;
  std::tie(problem.w_stride_n, problem.w_stride_k) = weight_strides;
  problem.alignment = alignment;
  problem.capability = capability ? 10 * capability->first + capability->second : 0;
  problem.allow_tf32 = allow_tf32;
  problem.allow_fp16_accumulation = allow_fp16_accumulation;
  return instance.why_not(problem);
}

#ifdef FUSEDOPS_CUDA
py::object launcher(const InstanceDescription& description, int64_t m, int64_t n, int64_t k,
                    const std::optional<std::string>& bias_dtype,
                    std::pair<int64_t, int64_t> x_strides,
                    std::pair<int64_t, int64_t> weight_strides, int multiprocessors) {
  Problem problem{};
  problem.m = m;
  problem.n = n;
  problem.k = k;
  problem.dtype = description.dtype;
  if (bias_dtype) problem.bias_dtype = dtype_named(*bias_dtype);
  std::tie(problem.x_stride_m, problem.x_stride_k) = x_strides;
  std::tie(problem.w_stride_n, problem.w_stride_k) = weight_strides;
  PyObject* const function =
      launch_function(Launcher(instances()[description.index], problem, multiprocessors));
  if (function == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(function);
}
#endif

BackwardProblem backward_problem(int64_t m, int64_t n, DType dtype, int steps,
                                 const std::optional<std::string>& bias_dtype,
                                 const std::optional<std::string>& scale_dtype, bool wants_dscale) {
  BackwardProblem problem{};
  problem.m = m;
  problem.n = n;
  problem.dtype = dtype;
  problem.steps = steps;
  if (bias_dtype) problem.bias_dtype = dtype_named(*bias_dtype);
  if (scale_dtype) problem.scale_dtype = dtype_named(*scale_dtype);
  problem.wants_dscale = wants_dscale;
  return problem;
}

std::vector<std::string> backward_why_not(const BackwardDescription& instance, int64_t m, int64_t n,
                                          const std::string& dtype, int steps,
                                          std::optional<std::pair<int, int>> capability) {
  BackwardProblem problem =
      backward_problem(m, n, dtype_named(dtype), steps, std::nullopt, std::nullopt, false);
  problem.capability = capability ? 10 * capability->first + capability->second : 0;
  return instance.why_not(problem);
}

std::pair<int64_t, int64_t> backward_workspace(const BackwardDescription& instance, int64_t m,
                                               int64_t n,
                                               const std::optional<std::string>& bias_dtype,
                                               bool wants_dscale, int multiprocessors) {
  const BackwardProblem problem =
      backward_problem(m, n, instance.dtype, 0, bias_dtype, std::nullopt, wants_dscale);
  return instance.workspace(problem, multiprocessors);
}

#ifdef FUSEDOPS_CUDA
py::object backward_launcher(const BackwardDescription& description, int64_t m, int64_t n,
                             int steps, const std::optional<std::string>& bias_dtype,
                             const std::optional<std::string>& scale_dtype, bool wants_dscale,
                             int multiprocessors) {
  const BackwardProblem problem =
      backward_problem(m, n, description.dtype, steps, bias_dtype, scale_dtype, wants_dscale);
  PyObject* const function = launch_function(
      BackwardLauncher(backward_instances()[description.index], problem, multiprocessors));
  if (function == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(function);
}
#endif

template <class Description>
py::list resources(const Description& instance) {
  py::list all;
  for (const InstanceResources& each : instance.resources) {
    all.append(py::dict(
        py::arg("arch") = each.architecture, py::arg("registers") = each.registers,
        py::arg("spill_bytes") = each.spill_bytes, py::arg("static_shared") = each.static_shared,
        py::arg("occupancy_blocks") = each.occupancy_blocks,
        py::arg("occupancy_warps") = each.occupancy_warps, py::arg("limiter") = each.limiter));
  }
  return all;
}

std::string repr(const InstanceDescription& instance) {
  std::ostringstream text;
  text << "<" << instance.kernel << " " << instance.label << ": " << name(instance.dtype)
       << ", tile " << instance.tile_m << "x" << instance.tile_n << "x" << instance.tile_k << ", "
       << instance.stages << " stages, " << instance.threads << " threads, "
       << instance.shared_memory / 1024.0 << " KiB of shared memory>";
  return text.str();
}

#ifdef FUSEDOPS_CUDA
py::list comma_separated(const std::string& text) {
  py::list all;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) all.append(word);
  return all;
}
#endif

py::dict build_info() {
  py::dict info;
#ifdef FUSEDOPS_CUDA
  info["architectures"] = comma_separated(FUSEDOPS_ARCHITECTURES);
  info["cuda"] = FUSEDOPS_CUDA_VERSION;
  info["cutlass"] = FUSEDOPS_CUTLASS_VERSION;
#else
  info["architectures"] = py::list();
  info["cuda"] = py::none();
  info["cutlass"] = py::none();
#endif
  info["torch_target"] = FUSEDOPS_TORCH_TARGET;
  return info;
}

}  // namespace
}  // namespace fusedops

PYBIND11_MODULE(_catalogue, module) {
  using fusedops::InstanceDescription;
  module.doc() = "What this build of fusedops contains: kernels, resources, predicates.";

  py::class_<InstanceDescription>(module, "Instance")
      .def_readonly("kernel", &InstanceDescription::kernel)
      .def_readonly("label", &InstanceDescription::label)
      .def_readonly("index", &InstanceDescription::index)
      .def_property_readonly("dtype",
                             [](const InstanceDescription& self) { return name(self.dtype); })
      .def_readonly("min_capability", &InstanceDescription::min_capability)
      .def_readonly("max_capability", &InstanceDescription::max_capability)
      .def_property_readonly("tile",
                             [](const InstanceDescription& self) {
                               return py::make_tuple(self.tile_m, self.tile_n, self.tile_k);
                             })
      .def_property_readonly("cluster",
                             [](const InstanceDescription& self) {
                               return py::make_tuple(self.cluster_m, self.cluster_n);
                             })
      .def_readonly("stages", &InstanceDescription::stages)
      .def_readonly("threads", &InstanceDescription::threads)
      .def_readonly("shared_memory", &InstanceDescription::shared_memory)
      .def_readonly("unit_roundoff", &InstanceDescription::unit_roundoff)
      .def_readonly("chain", &InstanceDescription::chain)
      .def_readonly("spacing", &InstanceDescription::spacing)
      .def_readonly("summation", &InstanceDescription::summation)
      .def_readonly("for_gradients", &InstanceDescription::for_gradients)
      .def_property_readonly("resources", &fusedops::resources<InstanceDescription>)
      .def("why_not", &fusedops::why_not, py::kw_only(), py::arg("m"), py::arg("n"), py::arg("k"),
           py::arg("dtype"), py::arg("bias_dtype"), py::arg("x_strides"), py::arg("weight_strides"),
           py::arg("alignment"), py::arg("capability"), py::arg("allow_tf32"),
           py::arg("allow_fp16_accumulation"),
           "Every reason this instance cannot run the problem; empty means it can.")
#ifdef FUSEDOPS_CUDA
      .def("launcher", &fusedops::launcher, py::kw_only(), py::arg("m"), py::arg("n"), py::arg("k"),
           py::arg("bias_dtype"), py::arg("x_strides"), py::arg("weight_strides"),
           py::arg("multiprocessors"),
           "The launch of a problem that why_not has no reason against: a function of x, weight, "
           "bias, scale, out and stream and, where the instance is for_gradients, scale_in_memory "
           "(a float) and z, on the current device. Addresses; 0 is none.")
#endif
      .def("__repr__", &fusedops::repr);

  using fusedops::BackwardDescription;
  py::class_<BackwardDescription>(module, "BackwardInstance")
      .def_readonly("kernel", &BackwardDescription::kernel)
      .def_readonly("label", &BackwardDescription::label)
      .def_readonly("index", &BackwardDescription::index)
      .def_property_readonly("dtype",
                             [](const BackwardDescription& self) { return name(self.dtype); })
      .def_readonly("min_capability", &BackwardDescription::min_capability)
      .def_readonly("threads", &BackwardDescription::threads)
      .def_readonly("unit_roundoff", &BackwardDescription::unit_roundoff)
      .def_property_readonly("resources", &fusedops::resources<BackwardDescription>)
      .def("why_not", &fusedops::backward_why_not, py::kw_only(), py::arg("m"), py::arg("n"),
           py::arg("dtype"), py::arg("steps"), py::arg("capability"),
           "Every reason this instance cannot run the problem; empty means it can.")
      .def("workspace", &fusedops::backward_workspace, py::kw_only(), py::arg("m"), py::arg("n"),
           py::arg("bias_dtype"), py::arg("wants_dscale"), py::arg("multiprocessors"),
           "How many floats of partial sums, and zeroed 32-bit counters, a launch needs.")
#ifdef FUSEDOPS_CUDA
      .def("launcher", &fusedops::backward_launcher, py::kw_only(), py::arg("m"), py::arg("n"),
           py::arg("steps"), py::arg("bias_dtype"), py::arg("scale_dtype"), py::arg("wants_dscale"),
           py::arg("multiprocessors"),
           "The launch of a problem that why_not has no reason against, on the current device: a "
           "function of the addresses of grad and saved, scale, the addresses of a scale on the "
           "device, dz, dbias, dscale, partial sums and counters, and the stream. 0 is none.")
#endif
      .def("__repr__", [](const BackwardDescription& self) {
        return "<" + self.kernel + " " + self.label + ">";
      });

  module.def("backward_instances", &fusedops::describe_backward_instances,
             "Every compiled kernel of the gradient, in the order of its index.");
  module.def("instances", &fusedops::describe_instances,
             "Every compiled kernel instance, in the order of its index.");
  module.def("build_info", &fusedops::build_info,
             "Architectures, toolkit and library versions of this build.");
}
