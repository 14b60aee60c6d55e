"""Arrays that are computed once and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from shards.base.files import save_tensors


def cached_array(path: Path, name: str, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that a file holds under a name; computed and saved if it is absent, damaged or of another shape."""
    try:
        kept = load_file(path)[name]
        if kept.shape == shape:
            return kept
    except (OSError, SafetensorError, KeyError):
        pass
    computed = compute()
    save_tensors(path, {name: computed})
    return computed
