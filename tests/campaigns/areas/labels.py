"""Label files beside a folder of images, and the answers and the session of a labeling."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards import label
from shards.labeling.session import open_session
from shards.sources.folder import FolderConfig, FolderSource
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.damage import draw_bytes, draw_json, draw_place, make

_NUM = 12
_COLUMNS = ("file", "age", "smiling", "hair", "note")
_CELLS = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e400", "1e39", "1_2", "0x1f", "1,5", "0.5.", "O.5", "1e", "--1", "+3",
    "1e-400", "true", "2", "NA", "?", "null", "brown ", "Brown", "a\u2028b", "a\x85b", "a\x0cb", "a\x0bb", "a\nb",
    'a"b', '"', "a,b", "a\tb", "9" * 400, "x" * 5000, "\ufeff", "é", "e\u0301", "=1+1", "<b>", "../bait/secret",
    "/etc/passwd", "١٢", "0.1f", "1 2", "Infinity",
)  # fmt: skip
"""Cells of tables at their edges; most are good texts and some are good numbers."""
_LINES = (
    "[" * 5000,
    '{"file":' * 3000,
    "[]",
    "null",
    "1",
    '{"file": 1}',
    "{}",
    '{"file": null}',
    "\0",
    "NaN",
    '{"a": Infinity}',
)


class Labels(Area):
    """Twelve images with two numbers, flags and classes, as CSV and as JSONL; a labeling by two persons."""

    title = "label files, answers, sessions"
    uses = ("csv", "csv", "tsv", "jsonl", "jsonl", "export", "export", "export", "session")

    def __init__(self, home: Path, bait: Path) -> None:
        """Makes the folder of images, which nothing opens, and the labeling."""
        super().__init__(home, bait)
        self._rows = [
            {
                "file": f"face{i:02d}.png",
                "age": 20 + 1.5 * i,
                "smiling": i % 2 == 0,
                "hair": ("black", "brown", "red")[i % 3],
                "note": f"n{i // 2}",
            }
            for i in range(_NUM)
        ]
        self._names = [str(row["file"]) for row in self._rows]
        (home / "images").mkdir()
        for name in self._names:
            (home / "images" / name).touch()
        for suffix in ("csv", "tsv", "jsonl"):
            (home / f"labels.{suffix}").write_text(self._table(suffix))
        write_labeling(home / "labeling", self._names)

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One or two cells, lines, bytes or files."""
        return [self._draw_one(rng, use) for _ in range(rng.choice((1, 1, 2)))]

    def _draw_one(self, rng: random.Random, use: str) -> Change:
        how = rng.random()
        if use == "session":
            file = "labeling/session.json"
            if how < 0.6:
                return draw_json(rng, file, json.loads((self.home / file).read_text()))
        elif use == "export":
            file = rng.choice(("labeling/answers/ann.jsonl", "labeling/answers/bob.jsonl"))
        else:
            file = f"labels.{use}"
            if how < 0.6:
                return Change("cell", file, [rng.randrange(_NUM), rng.choice(_COLUMNS[1:]), rng.choice(_CELLS)])
        if how < 0.7:
            return draw_place(rng, file)
        if how < 0.85 and use in ("jsonl", "export"):
            return Change("line", file, [rng.randrange(_NUM), rng.choice(_LINES)])
        if how < 0.92 and use in ("jsonl", "export"):
            number = rng.randrange(_NUM)
            change = draw_json(rng, "", json.loads((self.home / file).read_text().splitlines()[number]))
            return Change("json", file, [number, change.kind, change.value])
        return draw_bytes(rng, file, (self.home / file).stat().st_size)

    def use(self, folder: Path, case: Case) -> Any:
        """Joins the labels, resumes the labeling, or exports its degrees of smile."""
        for name in ("images", "labeling"):
            shutil.copytree(self.home / name, folder / name)
        for suffix in ("csv", "tsv", "jsonl"):
            shutil.copy(self.home / f"labels.{suffix}", folder)
        cells = {
            (row, column): text for kind, _, value in case.changes if kind == "cell" for row, column, text in [value]
        }
        if cells:
            (folder / f"labels.{case.use}").write_text(self._table(case.use, cells))
        for change in case.changes:
            if change.kind in ("line", "json"):
                _change_line(folder / change.where, *change.value)
            elif change.kind != "cell":
                make(change, folder)
        if case.use == "session":
            session = open_session(folder / "labeling", folder / "images", 0, 0.0)
            return {"files": session.files, "order": session.order("ann")}
        if case.use == "export":
            label.main(["export", str(folder / "labeling"), str(folder / "degrees.csv")])
            return (folder / "degrees.csv").read_text()
        source = FolderSource(FolderConfig(folder / "images", folder / f"labels.{case.use}"))
        for note in source.provenance["notes"]:
            print(note)
        fields = {name: (field.kind, field.classes) for name, field in source.fields.items()}
        return {"fields": fields, "rows": [dict(source[i].labels) for i in range(len(source))]}

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """The same; with only cells changed, those cells alone. Other changes may make another good table."""
        if found == good:
            return True
        cells = {tuple(c.value[:2]): c.value[2] for c in case.changes if c.kind == "cell"}
        if len(cells) < len(case.changes):
            return True
        for column in _COLUMNS[1:]:
            changed = {row: text for (row, name), text in cells.items() if name == column}
            if column not in found["fields"]:
                return f"'{column}'" in said
            if column in ("age", "smiling") and found["fields"][column][0] != good["fields"][column][0]:
                return f"'{column}'" in said
            for row in range(_NUM):
                value, before = found["rows"][row][column], good["rows"][row][column]
                is_named = value is None and f"'{column}'" in said
                if not (_is_right(value, changed[row], column) or is_named if row in changed else value == before):
                    return False
        return True

    def _table(self, suffix: str, cells: dict[tuple[int, str], str] | None = None) -> str:
        rows = [
            {**row, **{c: text for (at, c), text in (cells or {}).items() if at == i}}
            for i, row in enumerate(self._rows)
        ]
        if suffix == "jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, delimiter="\t" if suffix == "tsv" else ",", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def write_labeling(folder: Path, files: Sequence[str]) -> None:
    """A labeling of pictures by two persons, who have seen all of them."""
    (folder / "answers").mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"files": list(files), "seed": 0, "repeats": 0.0}))
    for subject, pace in (("ann", 400.0), ("bob", 700.0)):
        lines = [
            {"trial": i, "image": name, "smile": i % 2 == 0, "rt_ms": pace + 31.0 * i, "at": "2024-01-01T00:00:00"}
            for i, name in enumerate(files)
        ]
        (folder / "answers" / f"{subject}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _change_line(path: Path, number: int, *what: Any) -> None:
    """Puts a text in place of a line, or makes a JSON change of it."""
    if not path.is_file() or path.is_symlink():
        return
    lines = path.read_bytes().split(b"\n")
    if number >= len(lines):
        return
    if len(what) == 1:
        lines[number] = what[0].encode()
    else:
        alone = path.with_name("line.txt")
        alone.write_bytes(lines[number])
        make(Change(what[0], alone.name, what[1]), alone.parent)
        lines[number] = alone.read_bytes()
        alone.unlink()
    path.write_bytes(b"\n".join(lines))


def _is_right(value: Any, text: str, column: str) -> bool:
    """Whether a value is a plain reading of a cell; nothing at all may also be read from a cell without content."""
    if value is None:
        return text.strip().lower() in ("", "na", "n/a", "nan", "null", "?")
    if column == "age":
        plain = text.strip()
        return plain.isascii() and "_" not in plain and value == float(plain) and abs(value) < 3.5e38
    if column == "smiling":
        return isinstance(value, bool)
    return value.strip() == text.strip()
