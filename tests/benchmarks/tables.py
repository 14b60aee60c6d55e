"""Results of a benchmark's parts, as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]


def record(stem: Path, title: str, about: str, parts: Mapping[str, Any], measured: Mapping[str, Rows]) -> None:
    """Writes ``stem``.json and ``stem``.md, and prints the page; parts without new rows keep those of the files.

    Args:
        stem: The files' path without an ending.
        title: Of the page.
        about: Where it comes from.
        parts: The function of each part, whose docstring says what it measures, in the order of the page.
        measured: New rows by part.
    """
    file = stem.with_suffix(".json")
    known: dict[str, Rows] = json.loads(file.read_text()) if file.exists() else {}
    rows = known | {part: new for part, new in measured.items() if new}
    results = {part: rows[part] for part in parts if rows.get(part)}
    file.write_text(json.dumps(results, indent=1) + "\n")
    text = sections(title, about, {part: parts[part].__doc__ for part in parts}, results)
    stem.with_suffix(".md").write_text(text)
    print(text)


def sections(title: str, about: str, abouts: Mapping[str, str | None], results: Mapping[str, Rows]) -> str:
    """A page with a table for each part.

    Args:
        title: Of the page.
        about: Where it comes from.
        abouts: What each part measures.
        results: Rows of each part that was measured, all with the same columns.
    """
    lines = [f"# {title}", "", about]
    for part, rows in results.items():
        names = list(rows[0])
        lines += ["", f"## {part.capitalize()}", "", abouts[part] or "", ""]
        lines += [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---:" * len(names) + "|"]
        lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"
