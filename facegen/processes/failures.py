"""Training errors that a rerun, perhaps with other options, can fix."""

from __future__ import annotations

import errno

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
"""Error numbers of a disk that is full or cannot be written to."""


class TrainingFailed(RuntimeError):
    """Training cannot continue. Every process raises it at the same step, with one sentence that says why."""


class TrainingDiverged(TrainingFailed):
    """A loss or a gradient is not finite; nothing was updated with it."""


class SavingFailed(TrainingFailed):
    """A checkpoint could not be written; earlier ones are intact."""
