#pragma once

#include <Python.h>

#include "cuda/launcher.h"

namespace fusedops {

// A Python built-in, launch(x, weight, bias, scale, out, stream[, scale_in_memory, z]), of
// addresses; 0 is none. Every call of the operator ends in one, and pybind11 takes several times as
// long over the six arguments. A new reference, or null with a Python error set.
PyObject* launch_function(const Launcher& launcher);

// The same of a backward kernel: launch(grad, saved, scale, device_scale, dz, dbias, dscale,
// partials, counters, stream). An address of 0 is none.
PyObject* launch_function(const BackwardLauncher& launcher);

}  // namespace fusedops
