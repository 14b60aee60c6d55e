"""The documentation as tests see it: pages, the commands and code in them, links, anchors and tables."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))
LINKING_PAGES = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "jobs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL_CELL = re.compile(r'^# %% language="bash"\n((?:# .*\n)+)', re.MULTILINE)
_REDIRECTIONS = {">", ">>", "|"}
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROGRAMS = (
    "facegen ",
    "python ",
    "accelerate ",
    "make ",
    "pip ",
    "sbatch ",
    "docker ",
    "kubectl ",
    "ray ",
    "tensorboard ",
)


class Command(NamedTuple):
    """One command line of a page, as a shell splits it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [block for found, block in _FENCE.findall(text) if found == language]


def shell_lines(text: str) -> list[tuple[str, ...]]:
    """The command lines of all ``sh`` blocks, as a shell splits them."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").split("\n")]
    return [words for line in lines if (words := tuple(shlex.split(line, comments=True)))]


def spans(page: Path) -> list[str]:
    """The inline code of a page."""
    prose = _FENCE.sub("", page.read_text())
    # A span may be broken over two lines of a paragraph, and no table cell is.
    paragraphs = (" ".join(part.split("\n")) for part in prose.split("\n\n"))
    return [span for part in paragraphs for span in _INLINE.findall(part)]


def commands(page: Path) -> list[Command]:
    """Every command line of a page: all of its ``sh`` blocks, and inline code that starts a known program."""
    inline = [tuple(shlex.split(span)) for span in spans(page) if span.startswith(_PROGRAMS)]
    return [Command(page.name, words) for words in [*shell_lines(page.read_text()), *inline]]


def tutorial_commands(tutorial: Path) -> list[Command]:
    """The project's command lines in a tutorial's shell cells, up to a pipe or a file for the output."""
    cells = (re.sub(r"^# ", "", cell, flags=re.MULTILINE) for cell in _SHELL_CELL.findall(tutorial.read_text()))
    lines = [words for cell in cells for words in shell_lines(f"```sh\n{cell}```") if words[0] == "facegen"]
    kept = [itertools.takewhile(lambda word: word not in _REDIRECTIONS, words) for words in lines]
    return [Command(tutorial.name, tuple(words)) for words in kept]


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
