"""Tables of text for the terminal and in Markdown: the first column aligned left, the others right."""

from __future__ import annotations

from collections.abc import Sequence


def terminal_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns of text.

    Args:
        header: Names of the columns.
        rows: Cells, each row as long as the header.
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
