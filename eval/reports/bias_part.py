"""The table of biases in a report."""

from __future__ import annotations

from typing import Any

from eval.bias import BiasConfig, find_bias
from eval.biases.bias_table import HEADER, chart, chi_square_lines, table_cells
from eval.features.spaces import FeatureSpace
from eval.reports.pictures.base import Absent, Drawing
from eval.reports.results import TextTable
from eval.reports.run_pass import Protocol
from shards.base.errors import UserError

NUM_FIT, NUM_TEST, NUM_SAMPLES = 1000, 500, 250
"""Fewer than ``eval.bias`` takes, or this table would cost more than all distances together."""
GENDER, SMILE = "Male", "Smiling"
TITLE = "Bias: gender and smile"


def bias(model: Any, protocol: Protocol, space: FeatureSpace) -> tuple[TextTable, Drawing | None] | Absent:
    """Counts gender and smile in the evaluated split and in samples.

    Returns:
        The table and, of a conditional model, the chart over degrees.
    """
    dataset = protocol.dataset
    missing = [label for label in (GENDER, SMILE) if label not in dataset.fields]
    if missing:
        return Absent(
            f"the data set has no label {' and no label '.join(missing)}; see python -m eval.bias for other names"
        )
    if "sample" not in model.can:
        return Absent(f"{model.family} does not sample")
    if protocol.split == "train" or "train" not in dataset.splits:
        return Absent("the probes that read samples are fitted on the training split, so it needs a held-out one, too")
    config = BiasConfig(
        run="",
        data=dataset.address,
        out="",
        gender=GENDER,
        smile=SMILE,
        num_samples=max(2, min(NUM_SAMPLES, protocol.num_samples)),
        num_fit=max(2, min(NUM_FIT, protocol.num_train)),
        num_test=max(2, min(NUM_TEST, protocol.num_images)),
        split=protocol.split,
        seed=protocol.seed,
    )
    try:
        found = find_bias(config, model, dataset, space)
    except UserError as error:
        return Absent(str(error).rstrip("."))
    caption = (
        f"Counts by {GENDER} and {SMILE}; samples are read by probes on EfficientNet-Lite0 features. Turned: samples "
        "that change gender when only the degree moves, and p of McNemar's test."
        if model.condition is not None
        else f"Counts by {GENDER} and {SMILE}; samples are read by probes on EfficientNet-Lite0 features."
    )
    header = HEADER if model.condition is not None else HEADER[:-3]
    rows = [table_cells(row)[: len(header)] for row in found.rows]
    table = TextTable(TITLE, caption, header, rows, [*chi_square_lines(found), *found.notes])
    picture = chart(found)
    caption = "Shares of the same samples at each degree, as the probes read them."
    return table, None if picture is None else Drawing(picture, caption)
