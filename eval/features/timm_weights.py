"""The weights of timm's models that earlier downloads left in the hub's cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shards.dataset.tar import sha256_file

_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True)
class TimmFile:
    """A file of weights: the model as the hub calls it, where it is, and its sha256."""

    model: str
    path: Path
    sha256: str


def timm_files() -> tuple[list[TimmFile], str]:
    """The files, and where there are none the reason."""
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
    """The hub names large files by their sha256, which spares reading them."""
    blob = path.resolve().name
    return blob if re.fullmatch("[0-9a-f]{64}", blob) else sha256_file(path)
