"""Map the packages (in pyproject.toml) and call CMake: CMakeLists.txt and cmake/ hold the flags."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
SETTINGS = runpy.run_path(str(ROOT / "fusedops" / "settings.py"))


def have_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))


class CMakeBuild(build_ext):
    """Builds the shared libraries into fusedops/lib and the catalogue beside the package."""

    def run(self) -> None:
        output = Path(self.get_ext_fullpath("fusedops._native")).resolve().parent
        try:
            self.configure_and_build(output)
        except (OSError, subprocess.CalledProcessError) as error:
            if SETTINGS["BUILD_CUDA"].read() == "ON":
                raise
            print(
                f"fusedops: building the C++ backends failed ({error}); the compiler's first error "
                "is above. Installing without them: the triton and reference backends remain.",
                file=sys.stderr,
            )

    def configure_and_build(self, output: Path) -> None:
        build = ROOT / "build" / "cmake"
        cuda = SETTINGS["BUILD_CUDA"].read()
        architectures = SETTINGS["BUILD_ARCHITECTURES"].read()
        configure = [
            *("cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DFUSEDOPS_OUTPUT_DIR={output}",
            f"-DFUSEDOPS_CUDA={cuda}",
            f"-DFUSEDOPS_CUDA_ARCHITECTURES={architectures}",
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


def native() -> list[Extension]:
    """One placeholder: it makes the wheel a platform wheel and build_ext run."""
    if SETTINGS["BUILD_EXTENSIONS"].read() == "0":
        return []
    if not have_compiler():
        print("fusedops: no C++ compiler; building with the triton and reference backends only")
        return []
    return [Extension("fusedops._native", sources=[])]


setup(ext_modules=native(), cmdclass={"build_ext": CMakeBuild})
