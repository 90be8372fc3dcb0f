#include "launch_function.h"

#include <memory>

namespace fusedops {
namespace {

constexpr const char* kCapsule = "fusedops.Launcher";

PyObject* launch(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 6) {
    return PyErr_Format(PyExc_TypeError,
                        "launch takes x, weight, bias, scale, out and stream: 6 arguments, not %zd",
                        count);
  }
  const auto& start = *static_cast<const Launcher*>(PyCapsule_GetPointer(self, kCapsule));
  void* const x = PyLong_AsVoidPtr(args[0]);
  void* const weight = PyLong_AsVoidPtr(args[1]);
  void* const bias = PyLong_AsVoidPtr(args[2]);
  const double scale = PyFloat_AsDouble(args[3]);
  void* const out = PyLong_AsVoidPtr(args[4]);
  void* const stream = PyLong_AsVoidPtr(args[5]);
  if (PyErr_Occurred()) return nullptr;
  const cudaError_t error = start(x, weight, bias, scale, out, static_cast<cudaStream_t>(stream));
  if (error != cudaSuccess) {
    return PyErr_Format(PyExc_RuntimeError, "%s %s could not be launched: %s",
                        start.instance().kernel, start.instance().label, error_string(error));
  }
  Py_RETURN_NONE;
}

void destroy(PyObject* capsule) {
  delete static_cast<Launcher*>(PyCapsule_GetPointer(capsule, kCapsule));
}

PyMethodDef method = {
    "launch", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&launch)), METH_FASTCALL,
    "Launch on a stream of the current device: x, weight, bias, scale, out, stream."};

}  // namespace

PyObject* launch_function(const Launcher& launcher) {
  auto owned = std::make_unique<Launcher>(launcher);
  PyObject* const capsule = PyCapsule_New(owned.get(), kCapsule, &destroy);
  if (capsule == nullptr) return nullptr;
  owned.release();
  PyObject* const function = PyCFunction_New(&method, capsule);
  Py_DECREF(capsule);
  return function;
}

}  // namespace fusedops
