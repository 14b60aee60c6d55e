"""The error that users see, and the event that ends background work. Imports nothing heavy."""

from __future__ import annotations

import threading

ENDING = threading.Event()
"""Set when the program is about to end. The interpreter joins threads before it exits: long-running ones check it."""


class UserError(ValueError):
    """Bad input that the user can fix. Entry points print its one sentence and exit with code 2."""
