"""The table of a report as plain data, for HTML, Markdown and the terminal alike."""

from __future__ import annotations

from dataclasses import dataclass

from eval.results import Better, Metric, Report, best_runs, format_value

ARROWS: dict[Better, str] = {"lower": "↓", "higher": "↑", "": ""}


@dataclass(frozen=True)
class Cell:
    """One number as text, with the footnotes that belong to it."""

    text: str
    is_best: bool
    footnotes: tuple[int, ...]


@dataclass(frozen=True)
class Line:
    """One metric over all runs."""

    metric: Metric
    arrow: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Lines in groups, and the footnotes' texts; footnote n is ``footnotes[n - 1]``."""

    runs: tuple[str, ...]
    groups: tuple[tuple[str, tuple[Line, ...]], ...]
    footnotes: tuple[str, ...]


def build_table(report: Report) -> Table:
    """Lays out a report's numbers; equal reasons and notes share a footnote."""
    numbers: dict[str, int] = {}
    groups: dict[str, list[Line]] = {}
    for metric in report.metrics:
        best = best_runs(metric, report.runs)
        cells = []
        for position, run in enumerate(report.runs):
            measure = run.measures[metric.key]
            notes = tuple(numbers.setdefault(note, len(numbers) + 1) for note in (measure.reason, measure.note) if note)
            cells.append(Cell(format_value(metric, measure), position in best, notes))
        groups.setdefault(metric.group, []).append(Line(metric, ARROWS[metric.better], tuple(cells)))
    return Table(
        runs=tuple(run.name for run in report.runs),
        groups=tuple((title, tuple(lines)) for title, lines in groups.items()),
        footnotes=tuple(numbers),
    )


def markdown(table: Table) -> str:
    """The table in Markdown; the best value of a line is bold."""
    rows = [["metric", *table.runs], ["---", *["---:"] * len(table.runs)]]
    for title, lines in table.groups:
        rows.append([f"**{title}**", *[""] * len(table.runs)])
        for line in lines:
            rows.append([_label(line), *[_mark(cell, "**", "**") + _superscript(cell) for cell in line.cells]])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return text + "\n\n" + "\n".join(f"[{n}] {note}  " for n, note in enumerate(table.footnotes, start=1)) + "\n"


def terminal(table: Table) -> str:
    """The table in columns of text; the best value of a line has a star."""
    rows: list[list[str]] = [["", *table.runs]]
    for title, lines in table.groups:
        rows.append([title])
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
    return "\n".join(text).rstrip() + "\n"


def _label(line: Line) -> str:
    unit = f" [{line.metric.unit}]" if line.metric.unit else ""
    return f"{line.metric.title}{unit} {line.arrow}".rstrip()


def _mark(cell: Cell, before: str, after: str) -> str:
    return before + cell.text.strip() + after if cell.is_best else cell.text.strip()


def _superscript(cell: Cell) -> str:
    return "".join(f" [{number}]" for number in cell.footnotes)
