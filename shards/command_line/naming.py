"""What a command is called: by the module that is run, or by the name that ``facegen`` gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_names: dict[str, str] = {}


def call(names: Mapping[str, str]) -> None:
    """Makes usage and errors use these names from now on.

    Args:
        names: The new name of each command, by what this project's texts call it, such as ``python -m shards.pack``.
    """
    _names.update(names)


def as_called(text: str) -> str:
    """The text with every command under the name that it has in this process."""
    for known, name in _names.items():
        words = r"\s+".join(map(re.escape, known.split()))
        text = re.sub(rf"(?<![\w/.-]){words}(?![\w/-]|\.\w)", name, text)
    return text
