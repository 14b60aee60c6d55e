"""Reads again where the machine fails for a moment: a network disk, too many open files, too little memory.

Such an error says nothing about the file. It must neither count as a damaged image nor end hours of work at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from shards.base.errors import ENDING, UserError

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOLCK,
        errno.ENOMEM,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_PAUSES_SEC = (0.1, 1.0, 5.0)

ResultT = TypeVar("ResultT")


def is_passing(error: BaseException) -> bool:
    """Whether an error is the machine's and may be gone at the next try."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _PASSING)


def persistently(name: object, attempt: Callable[[], ResultT]) -> ResultT:
    """Returns what ``attempt`` returns, called up to four times within six seconds.

    Args:
        name: What is read, for the message.
        attempt: Reads it. Only errors for which ``is_passing`` holds are tried again; others come through at once.

    Raises:
        UserError: The last try failed, too.
    """
    for pause in (*_PAUSES_SEC, None):
        try:
            return attempt()
        except (OSError, MemoryError) as error:
            if not is_passing(error):
                raise
            if pause is None:
                reason = "out of memory" if isinstance(error, MemoryError) else getattr(error, "strerror", error)
                raise UserError(
                    f"{name} could not be read in {len(_PAUSES_SEC) + 1} tries ({reason}); rerun the command once it "
                    "can be, or leave it out."
                ) from None
        ENDING.wait(pause)
    raise AssertionError
