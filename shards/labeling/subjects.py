"""What the requests of the labeling page share: the pictures, and the order and the answers of each subject."""

from __future__ import annotations

import threading
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from shards.images.reading import open_image, to_mode
from shards.labeling.answers import Answer, AnswerLog
from shards.labeling.session import Session, check_subject

_NUM_UPCOMING = 4
_MAX_SIDE = 1024
_MAX_SUBJECTS = 64
"""Subjects kept in memory; those of others are read again from the disk."""


class Labeling:
    """A labeling that is being served. Thread-safe, and alone on its folder."""

    def __init__(self, images: Path, folder: Path, session: Session) -> None:
        """Reads nothing yet; a subject's answers are read at the first request."""
        self.session = session
        self._images, self._folder = images, folder
        self._lock = threading.Lock()
        self._subject = lru_cache(_MAX_SUBJECTS)(self._open)

    def state(self, subject: str) -> dict[str, Any]:
        """A subject's progress, and the pictures that come next; writes nothing.

        Raises:
            UserError: A name that is not allowed, or answers that cannot be read.
        """
        with self._lock:
            return self._state(subject)

    def answer(self, subject: str, trial: int, smile: bool, rt_ms: float) -> dict[str, Any]:
        """Saves an answer; the new state, and whether it is ``kept``: not if another trial is next.

        Raises:
            UserError: As ``state``.
            OSError: The answer could not be saved.
        """
        with self._lock:
            log, order = self._subject(subject)
            kept = 0 <= trial < len(order) and log.add(Answer(trial, self.session.files[order[trial]], smile, rt_ms))
            return self._state(subject) | {"kept": kept}

    def undo(self, subject: str) -> dict[str, Any]:
        """Takes a subject's last answer back; the new state, and whether there was one, as ``kept``.

        Raises:
            UserError: As ``state``.
            OSError: This could not be saved.
        """
        with self._lock:
            kept = self._subject(subject)[0].undo()
            return self._state(subject) | {"kept": kept}

    def picture(self, number: int) -> bytes:
        """A picture as JPEG, upright, without the file's metadata.

        Raises:
            IndexError: No such picture.
            BadImage: It cannot be read now.
        """
        if number < 0:
            raise IndexError(number)
        image = to_mode(open_image(self._images / self.session.files[number]), "RGB")
        image.thumbnail((_MAX_SIDE, _MAX_SIDE))
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue()

    def _open(self, subject: str) -> tuple[AnswerLog, list[int]]:
        check_subject(subject)
        return AnswerLog(self._folder, subject), self.session.order(subject)

    def _state(self, subject: str) -> dict[str, Any]:
        log, order = self._subject(subject)
        done = log.next_trial
        upcoming = [{"trial": trial, "image": order[trial]} for trial in range(done, len(order))[:_NUM_UPCOMING]]
        return {"subject": subject, "done": done, "total": len(order), "upcoming": upcoming}
