"""Text for people: a file may have any bytes in its name, and a terminal or a log takes only some."""

from __future__ import annotations

import io
import sys
import unicodedata

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, lone surrogates, and separators of lines and paragraphs."""


def printable(name: str) -> str:
    r"""A name as valid text in one line: ``\xff`` for a byte that is not UTF-8, ``\n`` for a line break."""
    return name if name.isprintable() else "".join(map(_escaped, name))


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # How Python stands for a byte that is not UTF-8.
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return repr(letter)[1:-1] if unicodedata.category(letter) in _ESCAPED else letter


def escape_output() -> None:
    """Lets ``print`` escape what the output's encoding lacks; by default it raises, and ends hours of work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
