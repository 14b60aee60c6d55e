"""The table of biases as text, Markdown and a chart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.base.columns import markdown_table, terminal_table
from eval.biases.counts import ChiSquare, Turned
from eval.biases.probe import Accuracy
from eval.drawing import svg
from shards.base.formats import Format

FORMAT = Format("table of biases", version=1, key="schema_version")
"""Of ``bias.json``."""
HEADER = ["images", "number", "male [%]", "with smile [%]", "male, smile", "male, none", "female, smile"]
HEADER += ["female, none", "turned male", "turned female", "p"]


@dataclass(frozen=True)
class BiasRow:
    """Counts of some images, by labels or probes: gender (female, male) by smile (without, with)."""

    images: str
    counts: list[list[int]]
    degree: float | None = None
    turned: Turned | None = None


@dataclass(frozen=True)
class Bias:
    """The biases of one run.

    Attributes:
        title: Names the run and the labels.
        rows: Rows of the table.
        probes: How well the probes read held-out images, by label and kind of image.
        tests: Chi-square tests by name; None if there was nothing to test.
        notes: What to know when reading the table.
    """

    title: str
    rows: list[BiasRow]
    probes: dict[str, dict[str, Accuracy]]
    tests: dict[str, ChiSquare | None]
    notes: list[str]


def terminal(result: Bias) -> str:
    """Table, tests and notes."""
    table = terminal_table(HEADER, [table_cells(row) for row in result.rows])
    notes = [f"note: {note}" for note in result.notes]
    return "\n".join([result.title, "", table, "", *chi_square_lines(result), *notes])


def markdown(result: Bias, has_chart: bool) -> str:
    """The same in Markdown, with a link to the chart beside it."""
    parts = [f"# {result.title}", markdown_table(HEADER, [table_cells(row) for row in result.rows])]
    parts.append("\n".join(f"* {line}" for line in chi_square_lines(result)))
    parts += [f"> {note}" for note in result.notes]
    return "\n\n".join(parts + (["![bias.svg](bias.svg)"] if has_chart else [])) + "\n"


def chart(result: Bias) -> str | None:
    """Shares of males and of smiles over the degree, as SVG; None for a model without a degree."""
    at = [(row.degree, np.array(row.counts)) for row in result.rows if row.degree is not None]
    if len(at) < 2:
        return None
    degrees = [degree for degree, _ in at]
    male = [100 * float(counts[1].sum() / counts.sum()) for _, counts in at]
    smiling = [100 * float(counts[:, 1].sum() / counts.sum()) for _, counts in at]
    series = [svg.Series("male [%]", degrees, male, 0), svg.Series("with smile [%]", degrees, smiling, 1)]
    return svg.line_chart(result.title, series, "degree asked for")


def table_cells(row: BiasRow) -> list[str]:
    """A row as text, one cell for each column of ``HEADER``."""
    counts = np.array(row.counts)
    num = int(counts.sum())
    change = ["", "", ""]
    if row.turned is not None:
        p = "" if row.turned.test is None else f"{row.turned.test.p:.2g}"
        change = [str(row.turned.to_male), str(row.turned.to_female), p]
    shares = [f"{100 * counts[1].sum() / num:.1f}", f"{100 * counts[:, 1].sum() / num:.1f}"]
    by_cell = [counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0]]
    return [row.images, str(num), *shares, *map(str, by_cell), *change]


def chi_square_lines(result: Bias) -> list[str]:
    """A line for each test, which names the hypothesis that a small p speaks against."""
    return [f"hypothesis that {name}: {_outcome(test)}" for name, test in result.tests.items()]


def _outcome(test: ChiSquare | None) -> str:
    if test is None:
        return "nothing to test"
    freedom = "1 degree" if test.dof == 1 else f"{test.dof} degrees"
    return f"chi-square {test.statistic:.1f}, {freedom} of freedom, p = {test.p:.2g}"
