"""Where downloads and computed features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "FACEGEN_CACHE"


def cache_directory() -> Path:
    """The user's cache directory of this project, or the one that the variable ``FACEGEN_CACHE`` names."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("facegen"))
