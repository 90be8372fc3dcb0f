"""What is to be told to a module of PyTorch's once it is there, and must not import it."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Tell = Callable[[], object]


def when_imported(name: str, tell: Tell) -> None:
    """Call ``tell`` now if the module has been imported, else as soon as it is."""
    if name in sys.modules:
        _tell(name, tell)
    else:
        sys.meta_path.insert(0, _Finder(name, tell))


def _tell(name: str, tell: Tell) -> None:
    try:
        tell()
    except (ImportError, AttributeError) as error:
        warnings.warn(f"this PyTorch's {name} cannot be told of fusedops: {error}", stacklevel=2)


class _Finder(MetaPathFinder):
    """Finds the module as anyone would, until it is there."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.name = name
        self.tell = tell
        self.searching = False

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != self.name or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, self)
        return spec


class _Telling(Loader):
    """The module's loader, which leaves no trace of itself on the module."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
            _tell(module.__name__, self.finder.tell)
