"""The evaluations of one trial, as a file in its run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facegen.runs.metrics_file import is_point
from shards.base.files import write_bytes
from shards.base.records import read_json_lines

BRANCHES = "branches.jsonl"
JOURNAL = "evaluations.jsonl"
IMAGES_SEEN = "images_seen"

Entry = dict[str, float]


class Journal:
    """The evaluations of a run, in order of ``images_seen``; a new one replaces those of the same or a later moment."""

    def __init__(self, run: Path) -> None:
        """Reads the entries of ``run``; a damaged line is left out."""
        self._path = run / JOURNAL
        self.entries: list[Entry] = [entry for entry in read_json_lines(self._path) if _is_entry(entry)]

    def after(self, images_seen: int) -> list[Entry]:
        """The entries of later moments."""
        return [entry for entry in self.entries if entry[IMAGES_SEEN] > images_seen]

    def has(self, images_seen: int) -> bool:
        """Whether there is an entry of that moment."""
        return any(entry[IMAGES_SEEN] == images_seen for entry in self.entries)

    def add(self, entry: Entry) -> None:
        """Adds an entry, in place of those of the same or a later moment."""
        self._write([*(old for old in self.entries if old[IMAGES_SEEN] < entry[IMAGES_SEEN]), entry])

    def cut(self, images_seen: int) -> None:
        """Drops the entries of later moments, after a run went back to an earlier checkpoint."""
        if self.after(images_seen):
            self._write([entry for entry in self.entries if entry[IMAGES_SEEN] <= images_seen])

    def _write(self, entries: list[Entry]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        write_bytes(self._path, text.encode(), durable=False)
        self.entries = entries


def read_branches(run: Path) -> list[dict[str, Any]]:
    """Where a run continued from another trial, in order: ``pointer``, ``from``, ``images_seen``, ``params``."""
    return [
        branch
        for branch in read_json_lines(run / BRANCHES)
        if isinstance(branch.get("from"), str) and {"pointer", "params"} <= branch.keys()
    ]


def _is_entry(entry: dict[str, Any]) -> bool:
    return is_point(entry) and all(isinstance(value, (int, float)) for value in entry.values())
