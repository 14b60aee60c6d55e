"""The scans of a JPEG, counted without decoding it.

A decoder passes over all pixels for each scan, and a scan of 50 blank megapixels takes 100 bytes: a file of less than a
megabyte can keep a decoder busy for minutes.
"""

from __future__ import annotations

import os
import re
from typing import IO

MAX_SCANS = 100
"""Progressive encoders write about ten, and a script of one scan for each coefficient bit stays below this."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""Not a stuffed byte, a restart or padding, which are all that scans hold."""
_FIRST_SEGMENT, _START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xC0, 0xD8, 0xD9, 0xDA
_BLOCK_BYTES = 1 << 14
_WHOLE_BYTES = 1 << 25


def has_too_many_scans(file: IO[bytes]) -> bool:
    """Whether a JPEG has more than ``MAX_SCANS`` scans. Moves the file's position."""
    file.seek(0)
    start = file.read(_WHOLE_BYTES)
    if len(start) < _WHOLE_BYTES and start.count(b"\xff\xda") <= MAX_SCANS:
        return False  # Nearly every file: its bytes do not even look like so many.
    num_scans = 0
    file.seek(2)
    while num_scans <= MAX_SCANS:
        marker = _next_marker(file)
        if marker in (None, _END_OF_IMAGE):
            return False
        # Decoders skip unknown markers below alone, not the bytes behind them.
        if marker >= _FIRST_SEGMENT and marker != _START_OF_IMAGE:
            num_scans += marker == _START_OF_SCAN
            num_bytes = int.from_bytes(file.read(2), "big")
            file.seek(max(num_bytes - 2, 0), os.SEEK_CUR)
    return True


def _next_marker(file: IO[bytes]) -> int | None:
    """Reads up to and including the next marker; None at the end of the file."""
    while block := file.read(_BLOCK_BYTES):
        found = _MARKER.search(block)
        if found:
            file.seek(found.end() - len(block), os.SEEK_CUR)
            return found[1][0]
        if block.endswith(b"\xff") and len(block) > 1:  # The first byte of a marker, perhaps.
            file.seek(-1, os.SEEK_CUR)
    return None
