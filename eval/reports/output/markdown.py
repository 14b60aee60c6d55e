"""A report in Markdown."""

from __future__ import annotations

from itertools import groupby

from eval.base.columns import markdown_table
from eval.reports.output.stage_table import stage_table
from eval.reports.output.table import build_table, markdown, markdown_summary
from eval.reports.results import Missing, Picture, Report, RunResult, TextTable

FIGURES = "figures"


def report_markdown(report: Report, split_title: str) -> str:
    """The content of the page, with pictures in ``figures/``."""
    parts = [f"# {report.title}", report.created]
    parts += [f"> **Note:** {warning}" for warning in report.warnings]
    if report.skipped:
        parts.append(f"Skipped: {', '.join(report.skipped)}.")
    table = build_table(report)
    if table.summary:
        parts += [f"## Summary ({split_title})", markdown_summary(table)]
    parts += [
        f"## Numbers ({split_title})",
        "↑ higher is better, ↓ lower is better; the best is bold.",
        markdown(table),
    ]
    if report.pictures or report.tables or report.missing:
        parts += [f"## All runs ({split_title})", *map(_picture, report.pictures), *map(_table, report.tables)]
        parts += _missing(report.missing)
    for run in report.columns:
        parts += _run(run, split_title)
    parts += ["## Protocol", "\n".join(f"- {name}: {text}" for name, text in report.protocol.items())]
    if report.stages:
        parts += ["## How long it took", _table(stage_table(report.stages), has_title=False)]
    return "\n\n".join(parts) + "\n"


def group_missing(missing: list[Missing]) -> list[tuple[str, str]]:
    """Joins the titles with the same reason; returns titles and reason, in the order of the first title."""
    order = {reason: number for number, reason in enumerate(dict.fromkeys(item.reason for item in missing))}
    by_reason = groupby(sorted(missing, key=lambda item: order[item.reason]), key=lambda item: item.reason)
    return [(", ".join(item.title for item in items), reason) for reason, items in by_reason]


def _run(run: RunResult, split_title: str) -> list[str]:
    parts = [f"## {run.name} ({run.family}, {split_title})"]
    parts += [f"> **Note:** {note}" for note in (run.difference, *run.warnings) if note]
    if run.weights:
        parts += [f"{run.weights} weights, step {run.step:,}, {run.images_seen:,} images seen, from `{run.path}`"]
    parts += [f"Condition: {run.condition}"] if run.condition else []
    return [*parts, *map(_picture, run.pictures), *map(_table, run.tables), *_missing(run.missing)]


def _picture(picture: Picture) -> str:
    return f"### {picture.title}\n\n{picture.caption}\n\n![{picture.title}]({FIGURES}/{picture.file})"


def _table(table: TextTable, has_title: bool = True) -> str:
    title = [f"### {table.title}"] if has_title else []
    notes = ["\n".join(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n\n".join([*title, table.caption, markdown_table(table.header, table.rows), *notes])


def _missing(missing: list[Missing]) -> list[str]:
    if not missing:
        return []
    return ["n/a:\n\n" + "\n".join(f"- {titles}: {reason}" for titles, reason in group_missing(missing))]
