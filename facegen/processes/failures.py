"""How a training can fail so that running it again, or otherwise, is what helps."""

from __future__ import annotations

import errno

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
"""Error numbers of a disk that is full, or cannot be written to."""


class TrainingFailed(RuntimeError):
    """Training cannot go on: every process raises it at the same step, and one sentence says why."""


class TrainingDiverged(TrainingFailed):
    """A loss or gradient is not finite; nothing was updated with it."""


class SavingFailed(TrainingFailed):
    """A checkpoint could not be written; those before it are as they were."""
