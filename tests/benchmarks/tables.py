"""Results of a benchmark's parts as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def sections(
    title: str, about: str, abouts: Mapping[str, str | None], results: Mapping[str, Sequence[dict[str, Any]]]
) -> str:
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
