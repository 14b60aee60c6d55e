"""The public names of a room: importable from the package, loaded when they are first used.

``import shards`` stays fast, and ``shards.pack(...)`` is the function although ``python -m shards.pack`` is the
command: importing the command's module would otherwise put it in the function's place.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package with public names that live in its modules."""

    __published: Mapping[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in self.__published:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = self.__published[name].partition(":")
        value = getattr(import_module(module), attribute)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__published and isinstance(value, ModuleType):
            return  # The import system, which has loaded the command of this name.
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__published})


def publish(package: str, names: Mapping[str, str]) -> None:
    """Publishes names of a package.

    Args:
        package: ``__name__`` of the package.
        names: Where each name lives, as ``module:attribute``.
    """
    module = sys.modules[package]
    module.__class__ = _Room
    module.__dict__["_Room__published"] = dict(names)
