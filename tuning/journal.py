"""The evaluations of one trial, as a file in its run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JOURNAL = "evaluations.jsonl"
IMAGES_SEEN = "images_seen"

Entry = dict[str, float]


class Journal:
    """What has been measured of a run, in order of ``images_seen``; a later entry of the same moment replaces one."""

    def __init__(self, run: Path) -> None:
        """Reads what is there; a line that a killed process has cut in two is left out."""
        self._path = run / JOURNAL
        self.entries: list[Entry] = [entry for entry in read_lines(self._path) if IMAGES_SEEN in entry]

    def after(self, images_seen: int) -> list[Entry]:
        """The entries of later moments."""
        return [entry for entry in self.entries if entry[IMAGES_SEEN] > images_seen]

    def has(self, images_seen: int) -> bool:
        """Whether that moment was measured."""
        return any(entry[IMAGES_SEEN] == images_seen for entry in self.entries)

    def add(self, entry: Entry) -> None:
        """Adds an entry."""
        self._write([*(old for old in self.entries if old[IMAGES_SEEN] < entry[IMAGES_SEEN]), entry])

    def cut(self, images_seen: int) -> None:
        """Drops the entries of later moments, from which a run has come back."""
        if self.after(images_seen):
            self._write([entry for entry in self.entries if entry[IMAGES_SEEN] <= images_seen])

    def _write(self, entries: list[Entry]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        temporary.replace(self._path)
        self.entries = entries


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, none where it is not there; a line that is cut in two is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
