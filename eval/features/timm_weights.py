"""Weights of timm's models in the hub's cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shards.dataset.tar import sha256_file

_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True)
class TimmFile:
    """A file of weights: its model on the hub, its path and its sha256."""

    model: str
    path: Path
    sha256: str


def timm_files() -> tuple[list[TimmFile], str]:
    """The files; or none, and the reason."""
    if find_spec("timm") is None or find_spec("huggingface_hub") is None:
        return [], "not installed; get it with: pip install 'facegen[perceptual]'"
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    found = [
        path
        for path in sorted(folder.glob("models--timm--*/snapshots/*/*"))
        if path.suffix in _SUFFIXES and path.is_file()
    ]
    files = [TimmFile(_model(path.relative_to(folder).parts[0]), path, _sha256(path)) for path in found]
    return files, "" if files else f"none in {folder}"


def _model(folder: str) -> str:
    return folder.removeprefix("models--").replace("--", "/")


def _sha256(path: Path) -> str:
    """The file's sha256; the hub names large files by it, so they need not be read."""
    blob = path.resolve().name
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else sha256_file(path)
