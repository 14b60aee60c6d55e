"""Tests; a package, so that another one of this name among the installed packages does not take its place."""

import sys
from pathlib import Path

# What tests share, which pytest finds by its configuration and `python -m tests.campaigns` does not.
_HELPERS = str(Path(__file__).parent / "helpers")
if _HELPERS not in sys.path:
    sys.path.append(_HELPERS)
