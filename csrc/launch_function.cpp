#include "launch_function.h"

#include <memory>

namespace fusedops {
namespace {

template <class AnyLauncher>
constexpr const char* kCapsule = nullptr;
template <>
constexpr const char* kCapsule<Launcher> = "fusedops.Launcher";
template <>
constexpr const char* kCapsule<BackwardLauncher> = "fusedops.BackwardLauncher";

template <class AnyLauncher>
const AnyLauncher& launcher_of(PyObject* capsule) {
  return *static_cast<const AnyLauncher*>(PyCapsule_GetPointer(capsule, kCapsule<AnyLauncher>));
}

template <class AnyLauncher>
PyObject* outcome(const AnyLauncher& start, cudaError_t error) {
  if (error != cudaSuccess) {
    return PyErr_Format(PyExc_RuntimeError, "%s %s could not be launched: %s",
                        start.instance().kernel, start.instance().label, error_string(error));
  }
  Py_RETURN_NONE;
}

PyObject* launch(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 6 && count != 8) {
    return PyErr_Format(PyExc_TypeError,
                        "launch takes x, weight, bias, scale, out and stream, and perhaps "
                        "scale_in_memory and z: 6 or 8 arguments, not %zd",
                        count);
  }
  const auto& start = launcher_of<Launcher>(self);
  void* const x = PyLong_AsVoidPtr(args[0]);
  void* const weight = PyLong_AsVoidPtr(args[1]);
  void* const bias = PyLong_AsVoidPtr(args[2]);
  const double scale = PyFloat_AsDouble(args[3]);
  void* const out = PyLong_AsVoidPtr(args[4]);
  void* const stream = PyLong_AsVoidPtr(args[5]);
  void* const scale_in_memory = count == 6 ? nullptr : PyLong_AsVoidPtr(args[6]);
  void* const z = count == 6 ? nullptr : PyLong_AsVoidPtr(args[7]);
  if (PyErr_Occurred()) return nullptr;
  return outcome(start, start(x, weight, bias, scale, out, static_cast<cudaStream_t>(stream),
                              static_cast<const float*>(scale_in_memory), z));
}

PyObject* launch_backward(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 10) {
    return PyErr_Format(PyExc_TypeError,
                        "launch takes grad, saved, scale, device_scale, dz, dbias, dscale, "
                        "partials, counters and stream: 10 arguments, not %zd",
                        count);
  }
  const auto& start = launcher_of<BackwardLauncher>(self);
  BackwardArgs all{};
  all.grad = PyLong_AsVoidPtr(args[0]);
  all.saved = PyLong_AsVoidPtr(args[1]);
  all.scale = PyFloat_AsDouble(args[2]);
  all.device_scale = PyLong_AsVoidPtr(args[3]);
  all.dz = PyLong_AsVoidPtr(args[4]);
  all.dbias = PyLong_AsVoidPtr(args[5]);
  all.dscale = PyLong_AsVoidPtr(args[6]);
  all.partials = PyLong_AsVoidPtr(args[7]);
  all.counters = PyLong_AsVoidPtr(args[8]);
  all.stream = static_cast<cudaStream_t>(PyLong_AsVoidPtr(args[9]));
  if (PyErr_Occurred()) return nullptr;
  return outcome(start, start(all));
}

template <class AnyLauncher>
void destroy(PyObject* capsule) {
  delete &launcher_of<AnyLauncher>(capsule);
}

template <PyObject* (*kLaunch)(PyObject*, PyObject* const*, Py_ssize_t)>
PyMethodDef method = {"launch",
                      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(kLaunch)),
                      METH_FASTCALL, "Launch on a stream of the current device."};

template <class AnyLauncher>
PyObject* function_of(const AnyLauncher& launcher, PyMethodDef& method) {
  auto owned = std::make_unique<AnyLauncher>(launcher);
  PyObject* const capsule =
      PyCapsule_New(owned.get(), kCapsule<AnyLauncher>, &destroy<AnyLauncher>);
  if (capsule == nullptr) return nullptr;
  owned.release();
  PyObject* const function = PyCFunction_New(&method, capsule);
  Py_DECREF(capsule);
  return function;
}

}  // namespace

PyObject* launch_function(const Launcher& launcher) {
  return function_of(launcher, method<&launch>);
}

PyObject* launch_function(const BackwardLauncher& launcher) {
  return function_of(launcher, method<&launch_backward>);
}

}  // namespace fusedops
