"""torchvision's compiled operators are found under each name that its releases gave them."""

from __future__ import annotations

import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path

import pytest
import torch

from facegen.perceptual.torchvision_ops import _load_compiled_operators


@pytest.mark.parametrize("name", ["_C", "_C_stable"])
def test_the_compiled_operators_are_loaded_where_torchvision_has_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = tmp_path / f"{name}{EXTENSION_SUFFIXES[-1]}"
    for file in (operators, tmp_path / "_CUDA.py"):
        file.touch()
    spec = ModuleSpec("torchvision", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    loaded: list[Path] = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    _load_compiled_operators()
    assert loaded == [operators]
