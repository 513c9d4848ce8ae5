"""Changes a module right after its import, before anybody could take a name from it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

Patch = Callable[[Any], None]

_patches: dict[str, list[Patch]] = {}


def after(module: str) -> Callable[[Patch], Patch]:
    """The decorated function gets the module as soon as it is imported."""

    def register(patch: Patch) -> Patch:
        _patches.setdefault(module, []).append(patch)
        return patch

    return register


def put(owner: Any, name: str, instead: Any) -> Any:
    """Replaces what `owner` has under this name, and returns it. AttributeError where there is nothing to replace: no
    sabotage outlives what it breaks."""
    honest = getattr(owner, name)
    setattr(owner, name, instead)
    return honest


def arm(sabotage: str) -> None:
    """Takes the patches of `tests/sabotage/<sabotage>.py`. None of the modules they name may be imported yet."""
    importlib.import_module(f"tests.sabotage.{sabotage}")
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name in _patches else None
        if found is not None and found.origin is not None:
            found.loader = _Loader(name, found.origin)
        return found


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for patch in _patches[module.__name__]:
            patch(module)
