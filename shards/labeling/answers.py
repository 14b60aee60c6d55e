"""The answers of one subject: an append-only file, one line an answer, durable before it counts."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shards.base.errors import UserError
from shards.base.formats import Format

ANSWERS_DIR = "answers"
_LINE = Format("labeling answer", version=1, first=1)
"""Of each line, not of the file: a newer version may append to a file that an older one began."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        trial: Position in the subject's order, from 0.
        image: Relative path of the picture.
        smile: Whether the subject saw a smile.
        rt_ms: Reaction time, from the picture on the screen to the key press, as the browser measured it.
    """

    trial: int
    image: str
    smile: bool
    rt_ms: float


class AnswerLog:
    """Appends answers and undos. Thread-safe."""

    def __init__(self, folder: Path, subject: str) -> None:
        """Opens the file of a subject; a half-written last line is cut off.

        Raises:
            OSError: The folder cannot be written to.
            UserError: A damaged line, or one of a newer version of this program.
        """
        path = folder / ANSWERS_DIR / f"{subject}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._answers, num_bytes = _read(path) if path.exists() else ([], 0)
        self._file = open(path, "ab")  # noqa: SIM115 - held until close()
        self._file.truncate(num_bytes)

    @property
    def answers(self) -> list[Answer]:
        """The answers that were not undone, in order; trial i is at position i."""
        with self._lock:
            return list(self._answers)

    def add(self, answer: Answer) -> bool:
        """Saves an answer; it is durable when this returns.

        Returns:
            False if the answer is not to the next trial, and nothing is saved: it came twice, or from another tab.
        """
        with self._lock:
            if answer.trial != len(self._answers):
                return False
            self._append(asdict(answer))
            self._answers.append(answer)
            return True

    def undo(self) -> bool:
        """Takes the last answer back; False if there is none."""
        with self._lock:
            if not self._answers:
                return False
            self._append({"undo": self._answers[-1].trial})
            self._answers.pop()
            return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        stamped = _LINE.stamp(line | {"at": datetime.now(UTC).isoformat(timespec="milliseconds")})
        self._file.write(f"{json.dumps(stamped)}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def read_answers(folder: Path) -> dict[str, list[Answer]]:
    """The answers that were not undone, by subject.

    Args:
        folder: Of the labeling; it is only read.

    Raises:
        UserError: A damaged line, or one of a newer version of this program.
    """
    return {path.stem: _read(path)[0] for path in sorted((folder / ANSWERS_DIR).glob("*.jsonl"))}


def _read(path: Path) -> tuple[list[Answer], int]:
    """The answers that were not undone, and the number of bytes of complete lines."""
    answers: list[Answer] = []
    num_bytes = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                content = _LINE.read(path, json.loads(line))
            except json.JSONDecodeError:
                raise UserError(f"{path} is damaged (not JSON: {line[:40]!r}); fix or delete that line.") from None
            num_bytes += len(line)
            if "undo" in content:
                answers.pop()
            else:
                content.pop("at")
                answers.append(Answer(**content))
    return answers, num_bytes
