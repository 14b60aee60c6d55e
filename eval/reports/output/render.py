"""Writes a report: self-contained HTML, Markdown, JSON and the pictures as files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from eval.reports.output.embedded import content_of, embed
from eval.reports.output.markdown import FIGURES, group_missing, report_markdown
from eval.reports.output.stage_table import stage_table
from eval.reports.output.table import build_table
from eval.reports.results import FORMAT, Figure, Picture, Report, read_report, to_json
from eval.reports.unfinished import UNFINISHED
from shards.base.errors import UserError
from shards.base.files import output_folder, write_bytes, write_json, writing_to

TEMPLATES = Path(__file__).parents[1] / "templates"


def prepare_out(out: Path) -> None:
    """Makes the report's directory.

    Raises:
        UserError: A file has this name, the directory holds other files, or nothing can be written there.
    """
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in ("report.json", FIGURES)):
        raise UserError(f"{out} holds other files; give a new --out, or one with an earlier report.")
    output_folder(out / FIGURES, "give another --out")


def write_report(out: Path, report: Report, figures: Mapping[str, Figure], split_title: str) -> None:
    """Writes all files, each of them atomically.

    Pictures of an earlier report there are removed, and the finished runs that were kept for a resume.
    """
    earlier = _pictures_of_earlier_report(out)
    with writing_to(out):
        for name, figure in figures.items():
            write_bytes(out / FIGURES / name, content_of(figure))
        write_bytes(out / "report.html", html(report, figures, split_title).encode())
        write_bytes(out / "report.md", report_markdown(report, split_title).encode())
        write_json(out / "report.json", FORMAT.stamp(to_json(report)), indent=1)
    for name in earlier - set(figures):
        (out / FIGURES / name).unlink(missing_ok=True)
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)


def html(report: Report, figures: Mapping[str, Figure], split_title: str) -> str:
    """The page, with all pictures inside."""
    embedded = {name: embed(figure) for name, figure in figures.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        table=build_table(report),
        stages=stage_table(report.stages) if report.stages else None,
        embedded=embedded,
        split_title=split_title,
        anchors=[f"run-{number}" for number in range(1, len(report.columns) + 1)],
        group_missing=group_missing,
        grouped=_grouped,
    )


def _grouped(pictures: Sequence[Picture]) -> list[tuple[str, list[Picture]]]:
    """Pictures by group, groups in the order of their first picture."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.group or "Pictures", []).append(picture)
    return list(groups.items())


def _pictures_of_earlier_report(out: Path) -> set[str]:
    try:
        earlier = read_report(out / "report.json")
    except UserError:
        return set()
    names = {picture.file for holder in (earlier, *earlier.columns) for picture in holder.pictures}
    return {name for name in names if Path(name).name == name}
