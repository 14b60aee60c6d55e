"""The documentation as tests see it: pages, the commands and code in them, links, anchors and tables."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINKING_PAGES = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "jobs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROGRAMS = ("python ", "accelerate ", "make ", "pip ", "sbatch ", "docker ", "kubectl ", "ray ", "tensorboard ")


class Command(NamedTuple):
    """One command line of a page, as a shell splits it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def spans(page: Path) -> list[str]:
    """The inline code of a page."""
    prose = _FENCE.sub("", page.read_text())
    # A span may be broken over two lines of a paragraph, and no table cell is.
    paragraphs = (" ".join(part.split("\n")) for part in prose.split("\n\n"))
    return [span for part in paragraphs for span in _INLINE.findall(part)]


def commands(page: Path) -> list[Command]:
    """Every command line of a page: all of its ``sh`` blocks, and inline code that starts a known program."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").split("\n")]
    lines += [span for span in spans(page) if span.startswith(_PROGRAMS)]
    split = (tuple(shlex.split(line, comments=True)) for line in lines)
    return [Command(page.name, words) for words in split if words]


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    _, found, rest = page.read_text().partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> set[str]:
    """The code spans in the first column of the tables of a text."""
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    return {span for row in rows for span in _INLINE.findall(row.split("|")[1])}


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page that lead into the project."""
    prose = _FENCE.sub("", page.read_text())
    return [target for target in _LINK.findall(prose) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
