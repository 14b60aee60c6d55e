"""The table of numbers as plain data, for HTML, Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from eval.base.columns import markdown_table
from eval.reports.registry import summary_keys
from eval.reports.results import Better, Metric, Report, best_runs, format_value

ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class Cell:
    """One number as text, with its footnotes."""

    text: str
    is_best: bool
    footnotes: tuple[int, ...]


@dataclass(frozen=True)
class MetricLine:
    """A metric of all runs."""

    metric: Metric
    arrow: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class NumberTable:
    """Lines in groups, and the texts of the footnotes; footnote n is ``footnotes[n - 1]``."""

    runs: tuple[str, ...]
    groups: tuple[tuple[str, tuple[MetricLine, ...]], ...]
    footnotes: tuple[str, ...]
    absent: dict[str, str] = field(default_factory=dict)
    """Why a group has no lines: no run has any of its numbers, all for this reason."""
    summary: tuple[MetricLine, ...] = ()
    """The most important lines, if some run has a value."""


def build_table(report: Report) -> NumberTable:
    """Lays out a report's numbers; equal reasons and notes share a footnote."""
    numbers: dict[str, int] = {}
    groups: dict[str, list[MetricLine]] = {}
    absent = _absent_groups(report)
    for metric in report.metrics:
        if metric.group in absent:
            groups[metric.group] = []
            continue
        best = best_runs(metric, report.runs)
        cells = []
        for position, run in enumerate(report.columns):
            measure = run.measures[metric.key]
            notes = tuple(numbers.setdefault(note, len(numbers) + 1) for note in (measure.reason, measure.note) if note)
            cells.append(Cell(format_value(metric, measure), position in best, notes))
        groups.setdefault(metric.group, []).append(MetricLine(metric, ARROWS[metric.better], tuple(cells)))
    return NumberTable(
        runs=tuple(run.name for run in report.columns),
        groups=tuple((title, tuple(lines)) for title, lines in groups.items()),
        footnotes=tuple(numbers),
        absent=absent,
        summary=_summary(line for lines in groups.values() for line in lines),
    )


def _absent_groups(report: Report) -> dict[str, str]:
    """The reason of each group that has no value and only one reason, by title."""
    reasons: dict[str, set[str]] = {}
    for metric in report.metrics:
        measures = [run.measures[metric.key] for run in report.columns]
        reasons.setdefault(metric.group, set()).update(
            measure.reason if measure.value is None else "" for measure in measures
        )
    return {group: next(iter(found)) for group, found in reasons.items() if len(found) == 1 and "" not in found}


def _summary(lines: Iterable[MetricLine]) -> tuple[MetricLine, ...]:
    by_key = {line.metric.key: line for line in lines if any(cell.text != "n/a" for cell in line.cells)}
    return tuple(by_key[key] for key in summary_keys() if key in by_key)


def markdown(table: NumberTable) -> str:
    """The table in Markdown; the best value of a line is bold."""
    rows = [["metric", *table.runs], ["---", *["---:"] * len(table.runs)]]
    for title, lines in table.groups:
        rows.append([f"**{title}**", *["n/a" if title in table.absent else ""] * len(table.runs)])
        for line in lines:
            rows.append([_label(line), *[_mark(cell, "**", "**") + _superscript(cell) for cell in line.cells]])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = [f"[{n}] {note}  " for n, note in enumerate(table.footnotes, start=1)]
    notes += [f"{title}: {reason}  " for title, reason in table.absent.items()]
    return text + "\n\n" + "\n".join(notes) + "\n"


def markdown_summary(table: NumberTable) -> str:
    """The most important lines as columns, with a row for each run."""
    header = ["run", *[_label(line) for line in table.summary]]
    rows = [
        [run, *[_mark(line.cells[position], "**", "**") + _superscript(line.cells[position]) for line in table.summary]]
        for position, run in enumerate(table.runs)
    ]
    return markdown_table(header, rows)


def terminal(table: NumberTable) -> str:
    """The table as text; the best value of a line has a star."""
    rows: list[list[str]] = [["", *table.runs]]
    for title, lines in table.groups:
        rows.append([f"{title}: n/a" if title in table.absent else title])
        rows += [
            ["  " + _label(line), *[_mark(cell, "* ", "") + _superscript(cell) for cell in line.cells]]
            for line in lines
        ]
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(len(rows[0]))]
    text = []
    for row in rows:
        first = row[0].ljust(widths[0])
        text.append("  ".join([first, *[cell.rjust(widths[i]) for i, cell in enumerate(row[1:], start=1)]]).rstrip())
    text += ["", *[f"[{number}] {note}" for number, note in enumerate(table.footnotes, start=1)]]
    text += [f"{title}: {reason}" for title, reason in table.absent.items()]
    return "\n".join(text).rstrip() + "\n"


def _label(line: MetricLine) -> str:
    unit = f" [{line.metric.unit}]" if line.metric.unit else ""
    return f"{line.metric.title}{unit} {line.arrow}".rstrip()


def _mark(cell: Cell, before: str, after: str) -> str:
    return before + cell.text.strip() + after if cell.is_best else cell.text.strip()


def _superscript(cell: Cell) -> str:
    return "".join(f" [{number}]" for number in cell.footnotes)
