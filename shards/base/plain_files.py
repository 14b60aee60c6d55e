"""Opening files that a data set or a run names: only plain ones inside their own folder, whoever wrote the name.

A manifest from elsewhere may name ``../../.ssh/id_rsa``, and a folder from elsewhere may hold a FIFO, a device or a
link under a harmless name. None of them is opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from shards.base.operating_system import NO_FOLLOW, READ_FLAGS

_SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.tar")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def is_shard_name(name: object) -> bool:
    """Whether a name can be a shard's: letters, digits, ``.``, ``_`` and ``-``, no leading dot, ends with ``.tar``."""
    return isinstance(name, str) and _SHARD_NAME.fullmatch(name) is not None


def is_plain_name(name: object) -> bool:
    """Whether a name is that of an entry of one folder: letters, digits, ``.``, ``_`` and ``-``, no leading dot."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None


def open_plain(path: Path) -> int:
    """Opens a regular file for reading; the caller closes the descriptor.

    Raises:
        OSError: It is missing or unreadable, or it is a link, a FIFO, a device or a folder (``EINVAL``, whose
            ``strerror`` says so).
    """
    try:
        if not NO_FOLLOW and not stat.S_ISREG(os.lstat(path).st_mode):
            raise _not_plain(path)
        descriptor = os.open(path, READ_FLAGS | NO_FOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP or error.errno == errno.ENXIO:  # A link; a socket or a device without a driver.
            raise _not_plain(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(path)
    return descriptor


def check_plain(path: Path) -> None:
    """Checks that ``open_plain`` could open a file, for libraries that open by name.

    Raises:
        OSError: As ``open_plain``.
    """
    os.close(open_plain(path))


def _not_plain(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is a link, a pipe, a device or a folder, not a plain file", str(path))
