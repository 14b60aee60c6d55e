"""What programs print: names of any bytes as valid text, and no traceback for a disk that refuses."""

from __future__ import annotations

import io
import os
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO, cast

from shards.base.errors import Note

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, lone surrogates, and separators of lines and paragraphs."""


def printable(name: str) -> str:
    r"""A name as valid text in one line: ``\xff`` for a byte that is not UTF-8, ``\n`` for a line break."""
    return name if name.isprintable() else "".join(map(_escaped, name))


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # How Python stands for a byte that is not UTF-8.
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return repr(letter)[1:-1] if unicodedata.category(letter) in _ESCAPED else letter


@contextmanager
def lasting_output() -> Iterator[None]:
    """Lets ``print`` succeed inside whatever becomes of the output: losing a line must not end hours of work.

    Letters that its encoding lacks are escaped. Once its reader has gone (``| head -c 1``), its terminal has closed or
    its disk is full, the rest is dropped. Threads report an error of a disk in one line instead of a traceback. A
    ``Note`` is one line, too.
    """
    outputs, hook, show = (sys.stdout, sys.stderr), threading.excepthook, warnings.showwarning
    threading.excepthook = _report_of_thread
    warnings.showwarning = partial(_show_warning, show)
    sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in outputs)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = outputs
        threading.excepthook = hook
        warnings.showwarning = show


def _show_warning(show: Callable[..., None], message: Any, category: type[Warning], *place: Any) -> None:
    """Prints a note as one line, without the place in the code; other warnings as always."""
    if issubclass(category, Note):
        print(f"note: {printable(str(message))}", file=sys.stderr)
    else:
        show(message, category, *place)


class _Lasting:
    """A text stream that drops what it cannot write."""

    def __init__(self, stream: TextIO | None) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream or io.StringIO()  # None where the program was started with a closed output.

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop_the_rest()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop_the_rest()

    def _drop_the_rest(self) -> None:
        # What is buffered, and the interpreter's flush at exit, then succeed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _report_of_thread(failure: threading.ExceptHookArgs) -> None:
    error = failure.exc_value
    if isinstance(error, OSError) and error.errno is not None:
        print(f"error: {printable(str(error.filename or failure.thread))} ({error.strerror})", file=sys.stderr)
    else:
        threading.__excepthook__(failure)
