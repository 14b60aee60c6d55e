"""The result of a verification as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.base.columns import markdown_table, terminal_table
from eval.verification.folds import Line
from shards.base.formats import Format

FORMAT = Format("verification", version=1, key="schema_version")
"""Of ``verify.json``."""
HEADER = ["run", "method", "accuracy [%]", "std [%]", "EER [%]", "AUC", "TAR at FAR 0.001 [%]"]


@dataclass(frozen=True)
class Mistake:
    """A pair on the wrong side of its threshold."""

    run: str
    method: str
    keys: list[str]
    same: int
    score: float


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        title: Names the runs and the splits.
        protocol: Named lines, in order.
        lines: Lines of the table, the control's last.
        notes: What to know when reading the table.
        mistakes: The most confident mistakes.
        pictures: Names of the picture files.
    """

    title: str
    protocol: Mapping[str, str]
    lines: Sequence[Line]
    notes: Sequence[str]
    mistakes: Sequence[Mistake]
    pictures: Sequence[str]


def terminal(result: Verification) -> str:
    """Table and notes."""
    parts = [result.title, terminal_table(HEADER, table_rows(result.lines))]
    parts.append("\n".join(f"{name}: {text}" for name, text in result.protocol.items()))
    return "\n\n".join([*parts, "\n".join(f"note: {note}" for note in result.notes)]).rstrip()


def markdown(result: Verification) -> str:
    """The same in Markdown, with the pictures."""
    parts = [f"# {result.title}", markdown_table(HEADER, table_rows(result.lines))]
    parts += [f"> {note}" for note in result.notes]
    parts.append("\n".join(f"* {name}: {text}" for name, text in result.protocol.items()))
    parts += [f"![{name}]({name})" for name in result.pictures]
    return "\n\n".join(parts) + "\n"


def to_json(result: Verification) -> dict[str, Any]:
    """The result as plain data, with shares instead of percent."""
    content = {
        "title": result.title,
        "protocol": dict(result.protocol),
        "lines": [
            {
                "run": line.run,
                "method": line.method,
                "accuracy": line.accuracy.mean,
                "accuracy_std": line.accuracy.std,
                "accuracy_standard_error": line.accuracy.standard_error,
                "equal_error_rate": line.discrimination.equal_error_rate,
                "area_under_roc": line.discrimination.area,
                "true_accept_rate_at_false_accept_rate_0.001": line.discrimination.true_accept_rate,
            }
            for line in result.lines
        ],
        "notes": list(result.notes),
        "mistakes": [vars(mistake) for mistake in result.mistakes],
        "pictures": list(result.pictures),
    }
    return FORMAT.stamp(content)


def table_rows(lines: Sequence[Line]) -> list[list[str]]:
    """The lines as text, one cell for each column of ``HEADER``."""
    return [
        [
            line.run,
            line.method,
            f"{100 * line.accuracy.mean:.2f} ± {100 * line.accuracy.standard_error:.2f}",
            f"{100 * line.accuracy.std:.2f}",
            f"{100 * line.discrimination.equal_error_rate:.2f}",
            f"{line.discrimination.area:.4f}",
            f"{100 * line.discrimination.true_accept_rate:.2f}",
        ]
        for line in lines
    ]
