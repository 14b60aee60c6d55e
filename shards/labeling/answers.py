"""The answers of one subject: a file that only grows, one line an answer, each on the disk before it counts."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ANSWERS_DIR = "answers"


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        trial: Place in the subject's order, from 0.
        image: Relative path of the picture.
        smile: Whether the subject saw a smile.
        rt_ms: From the moment in which the picture was on the screen to the key, as the browser measured it.
    """

    trial: int
    image: str
    smile: bool
    rt_ms: float


class AnswerLog:
    """Appends answers and undos. Safe to use from several threads."""

    def __init__(self, folder: Path, subject: str) -> None:
        """Opens the file of a subject; a line that was only half written is cut off.

        Raises:
            OSError: The folder cannot be written to.
        """
        path = folder / ANSWERS_DIR / f"{subject}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = open(path, "ab")  # noqa: SIM115 - held until close()
        self._answers, num_bytes = _read(path)
        self._file.truncate(num_bytes)

    @property
    def answers(self) -> list[Answer]:
        """The answers that stand, in order; trial i is at place i."""
        with self._lock:
            return list(self._answers)

    def add(self, answer: Answer) -> bool:
        """Keeps an answer; it is on the disk when this returns.

        Returns:
            False, and nothing is kept, where the answer is not to the trial that is next: it came twice, or from
            another tab.
        """
        with self._lock:
            if answer.trial != len(self._answers):
                return False
            self._append(asdict(answer))
            self._answers.append(answer)
            return True

    def undo(self) -> bool:
        """Takes the last answer back; False where there is none."""
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
        stamped = line | {"at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        self._file.write(f"{json.dumps(stamped)}\n".encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def read_answers(folder: Path) -> dict[str, list[Answer]]:
    """The answers that stand, by subject.

    Args:
        folder: Of the labeling; nothing in it is changed.
    """
    return {path.stem: _read(path)[0] for path in sorted((folder / ANSWERS_DIR).glob("*.jsonl"))}


def _read(path: Path) -> tuple[list[Answer], int]:
    """Answers that stand, and the number of bytes of whole lines."""
    answers: list[Answer] = []
    num_bytes = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            content = json.loads(line)
            num_bytes += len(line)
            if "undo" in content:
                answers.pop()
            else:
                content.pop("at")
                answers.append(Answer(**content))
    return answers, num_bytes
