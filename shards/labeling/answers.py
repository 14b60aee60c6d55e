"""The answers of one subject: an append-only file, one line an answer, durable before it counts."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from shards.base.errors import UserError
from shards.base.formats import Format, NewerFormat
from shards.base.operating_system import sync_descriptor
from shards.base.plain_files import open_plain

ANSWERS_DIR = "answers"
Trial = Annotated[int, Field(ge=0, strict=True)]
"""Position in the subject's order, from 0."""
Smile = Annotated[bool, Field(strict=True)]
"""Whether the subject saw a smile."""
ReactionTime = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
"""Milliseconds from the picture on the screen to the key press, as the browser measured it."""
_LINE = Format("labeling answer", version=1, first=1)
"""Of each line, not of the file: a newer version may append to a file that an older one began."""
_SHOWN_BYTES = 40


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        trial: The subject's trial.
        image: Relative path of the picture.
        smile: Whether the subject saw a smile.
        rt_ms: Reaction time.
    """

    trial: Trial
    image: str
    smile: Smile
    rt_ms: ReactionTime


@dataclass(frozen=True)
class _Undo:
    undo: Trial


_CONTENT: TypeAdapter[Answer | _Undo] = TypeAdapter(Answer | _Undo)


class AnswerLog:
    """Appends answers and undos. Not thread-safe; one log at a time may be open for a file."""

    def __init__(self, folder: Path, subject: str) -> None:
        """Reads the file of a subject, if there is one; nothing is written before the first answer.

        Raises:
            UserError: It cannot be read, or has a line of a newer version of this program.
        """
        self._path = folder / ANSWERS_DIR / f"{subject}.jsonl"
        self._answers, self._num_bytes = _read(self._path, print) if os.path.lexists(self._path) else ([], 0)

    @property
    def answers(self) -> list[Answer]:
        """The answers that were not undone, in order."""
        return list(self._answers)

    @property
    def next_trial(self) -> int:
        """The trial that comes next."""
        return self._answers[-1].trial + 1 if self._answers else 0

    def add(self, answer: Answer) -> bool:
        """Saves an answer; it is durable when this returns.

        Returns:
            False if the answer is not to the next trial, and nothing is saved: it came twice, or from another tab.

        Raises:
            OSError: It could not be saved.
        """
        if answer.trial != self.next_trial:
            return False
        self._append(asdict(answer))
        self._answers.append(answer)
        return True

    def undo(self) -> bool:
        """Takes the last answer back; False if there is none.

        Raises:
            OSError: This could not be saved.
        """
        if not self._answers:
            return False
        self._append({"undo": self._answers[-1].trial})
        self._answers.pop()
        return True

    def _append(self, line: dict[str, Any]) -> None:
        stamped = _LINE.stamp(line | {"at": datetime.now(UTC).isoformat(timespec="milliseconds")})
        content = f"{json.dumps(stamped)}\n".encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab", buffering=0) as file:
            # Cuts off what a kill or a full disk left of a line that does not count.
            file.truncate(self._num_bytes)
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            sync_descriptor(file.fileno())
        self._num_bytes += len(content)


def read_answers(folder: Path, tell: Callable[[str], object] = print) -> dict[str, list[Answer]]:
    """The answers that were not undone, by subject.

    Args:
        folder: Of the labeling; it is only read.
        tell: Called with a sentence for each damaged line, which is left out.

    Raises:
        UserError: A file that cannot be read, or a line of a newer version of this program.
    """
    return {path.stem: _read(path, tell)[0] for path in sorted((folder / ANSWERS_DIR).glob("*.jsonl"))}


def _read(path: Path, tell: Callable[[str], object]) -> tuple[list[Answer], int]:
    """The answers that were not undone, and the number of bytes of complete lines."""
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore it, or move it away.") from None
    answers: list[Answer] = []
    for number, line in enumerate(lines, 1):
        content = _parse(path, line)
        if content is None:
            tell(f"{path}, line {number} is damaged and left out: {line[:_SHOWN_BYTES]!r}")
            continue
        # Not only the last one: the line that took others back may be damaged.
        trial = content.undo if isinstance(content, _Undo) else content.trial
        while answers and answers[-1].trial >= trial:
            answers.pop()
        if isinstance(content, Answer):
            answers.append(content)
    return answers, sum(map(len, lines))


def _parse(path: Path, line: bytes) -> Answer | _Undo | None:
    """What a line says; None if it is damaged."""
    try:
        return _CONTENT.validate_python(_LINE.read(path, json.loads(line)))
    except NewerFormat:
        raise
    except (ValueError, RecursionError):
        return None
