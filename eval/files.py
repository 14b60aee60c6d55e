"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def save_whole(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file under a temporary name and renames it; makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
    os.close(handle)
    try:
        # An array that is not in C order would be written as its memory lies, which is another array.
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(contiguous, temporary, dict(metadata) if metadata else None)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
