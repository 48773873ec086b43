"""Stands in for modules that only a GPU build of an engine has.

`stand_in(prefixes)` makes every import below the given package names succeed with empty stand-ins, so
that an engine's host-side classes can be imported on a machine without its compiled kernels. None of
what is stood in for is called by what we drive; were it called, its answer would be a mock and the
recorded numbers would show it.
"""

import abc
import importlib.abc
import importlib.machinery
import sys
import types
from unittest.mock import MagicMock


class Anything(abc.ABCMeta):
    """The type of stood-in classes: every attribute exists."""

    def __getattr__(cls, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return MagicMock(name=f"{cls.__name__}.{name}")


class Hollow(types.ModuleType):
    """A module in which every name exists."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        if name[:1].isupper() and not name.isupper():
            # A class name: something that can be derived from.
            mock = Anything(name, (), {"__init__": lambda self, *a, **k: None, "__module__": self.__name__})
        else:
            mock = MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, mock)
        return mock


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, prefixes):
        self.prefixes = tuple(prefixes)

    def find_spec(self, name, path=None, target=None):
        if any(name == p or name.startswith(p + ".") for p in self.prefixes):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Hollow(spec.name)

    def exec_module(self, module):
        pass


def stand_in(prefixes):
    sys.meta_path.insert(0, Finder(prefixes))


SGLANG = [
    "sgl_kernel",
    "sglang.kernels",
    "sglang.srt.compilation",
    "sglang.srt.configs",
    "sglang.srt.distributed",
    "sglang.srt.layers",
    "sglang.srt.mem_cache.cpp_utils",
    "sglang.srt.model_loader",
    "sglang.srt.models",
]
"""What SGLang's scheduler and caches import but do not call when driven without a model."""
