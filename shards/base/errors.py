"""The errors that users see, and the event that ends background work. Imports nothing heavy."""

from __future__ import annotations

import threading
from typing import Any

_SHOWN_CHARACTERS = 60

ENDING = threading.Event()
"""Set when the program is about to end. The interpreter joins threads before it exits: long-running ones check it."""


class UserError(ValueError):
    """Bad input that the user can fix. Entry points print its one sentence and exit with code 2."""


class DamagedFile(UserError):
    """A file whose content is not what it should be; neither a missing one nor one of a newer release."""


class Note(UserWarning):
    """Something that the user should know; commands print it as one line."""


def shown(value: Any) -> str:
    """A value from outside in a few printable characters, for a message."""
    try:
        text = ascii(value)
    except ValueError:  # A number of thousands of digits.
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
