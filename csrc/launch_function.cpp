#include "launch_function.h"

#include <memory>

namespace fusedops {
namespace {

constexpr const char* kCapsule = "fusedops.Launcher";

PyObject* launch(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 6 && count != 8) {
    return PyErr_Format(PyExc_TypeError,
                        "launch takes x, weight, bias, scale, out and stream, and perhaps "
                        "scale_in_memory and z: 6 or 8 arguments, not %zd",
                        count);
  }
  const auto& start = *static_cast<const Launcher*>(PyCapsule_GetPointer(self, kCapsule));
  void* const x = PyLong_AsVoidPtr(args[0]);
  void* const weight = PyLong_AsVoidPtr(args[1]);
  void* const bias = PyLong_AsVoidPtr(args[2]);
  const double scale = PyFloat_AsDouble(args[3]);
  void* const out = PyLong_AsVoidPtr(args[4]);
  void* const stream = PyLong_AsVoidPtr(args[5]);
  void* const scale_in_memory = count == 6 ? nullptr : PyLong_AsVoidPtr(args[6]);
  void* const z = count == 6 ? nullptr : PyLong_AsVoidPtr(args[7]);
  if (PyErr_Occurred()) return nullptr;
  const cudaError_t error = start(x, weight, bias, scale, out, static_cast<cudaStream_t>(stream),
                                  static_cast<const float*>(scale_in_memory), z);
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
    "Launch on a stream of the current device: x, weight, bias, scale, out, stream and, for a "
    "gradient, scale_in_memory, z."};

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
