"""Writes a report: self-contained HTML, Markdown, JSON and the pictures as files."""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jinja2
from PIL import Image

from eval.results import SCHEMA_VERSION, Picture, Report, to_json
from eval.table import build_table, markdown
from shards.cli import UserError

FIGURES = "figures"
TEMPLATES = Path(__file__).parent / "templates"
_EMBEDDED_QUALITY = 90
"""WebP quality of the pictures inside the HTML; the files beside it are lossless PNG."""

Figure = Image.Image | str
"""A picture, or the text of an SVG chart."""


def prepare_out(out: Path) -> None:
    """Makes the report's directory.

    Raises:
        UserError: A file of that name, a directory with other files in it, or a place where nothing can be written.
    """
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in ("report.json", FIGURES)):
        raise UserError(f"{out} holds other files; give a new --out, or one with an earlier report.")
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write a report to {out} ({error.strerror}); give another --out.") from None


def write_report(out: Path, report: Report, figures: Mapping[str, Figure], split_title: str) -> None:
    """Writes all files, each to a temporary name and then renamed; pictures of an earlier report there are removed."""
    earlier = _pictures_of_earlier_report(out)
    for name, figure in figures.items():
        _write(out / FIGURES / name, figure.encode() if isinstance(figure, str) else _encode(figure, "PNG"))
    _write(out / "report.html", html(report, figures, split_title).encode())
    _write(out / "report.md", _markdown(report, split_title).encode())
    content = {"schema_version": SCHEMA_VERSION, **to_json(report)}
    _write(out / "report.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    for name in earlier - set(figures):
        (out / FIGURES / name).unlink(missing_ok=True)


def html(report: Report, figures: Mapping[str, Figure], split_title: str) -> str:
    """The page, with every picture inside it."""
    embedded = {name: figure if isinstance(figure, str) else _data_uri(figure) for name, figure in figures.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("report.html.j2")
    return template.render(report=report, table=build_table(report), embedded=embedded, split_title=split_title)


def _markdown(report: Report, split_title: str) -> str:
    parts = [f"# {report.title}", report.created]
    parts += [f"> **Note:** {warning}" for warning in report.warnings]
    parts += [f"## Numbers ({split_title})", "↑ higher is better, ↓ lower is better; the best is bold."]
    parts += [markdown(build_table(report))]
    if report.pictures:
        parts += [f"## All runs ({split_title})", *map(_markdown_picture, report.pictures)]
    for run in report.runs:
        parts += [f"## {run.name} ({run.family}, {split_title})"]
        parts += [f"> **Note:** {note}" for note in (run.difference, *run.warnings) if note]
        parts += [f"{run.weights} weights, step {run.step:,}, {run.images_seen:,} images seen, from `{run.path}`"]
        parts += map(_markdown_picture, run.pictures)
    parts += ["## Protocol", "\n".join(f"- {name}: {text}" for name, text in report.protocol.items())]
    return "\n\n".join(parts) + "\n"


def _markdown_picture(picture: Picture) -> str:
    return f"### {picture.title}\n\n{picture.caption}\n\n![{picture.title}]({FIGURES}/{picture.file})"


def _pictures_of_earlier_report(out: Path) -> set[str]:
    try:
        content = json.loads((out / "report.json").read_text())
        holders = [content, *content["runs"]]
        names = {picture["file"] for holder in holders for picture in holder["pictures"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if Path(name).name == name}


def _data_uri(picture: Image.Image) -> str:
    data = base64.b64encode(_encode(picture, "WEBP", quality=_EMBEDDED_QUALITY)).decode()
    return f"data:image/webp;base64,{data}"


def _encode(picture: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes it readable to its owner only; a report is to be passed on.
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
