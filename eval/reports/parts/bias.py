"""Gender and smile in the data and in samples, as a table and, over degrees, as a chart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eval.biases.bias_table import HEADER, chart, chi_square_lines, table_cells
from eval.biases.counting import BiasOptions, KnownFeatures, find_bias
from eval.features.feature_set import FeatureSets
from eval.features.space_names import SPACES
from eval.reports.part import Absent, Drawing, Features, Part, RunTable
from eval.reports.parts.distances import RECONSTRUCTION_FEATURES
from eval.reports.results import TextTable
from eval.reports.run_context import RunContext

NUM_FIT, NUM_TEST, NUM_SAMPLES = 1000, 500, 250
"""Fewer than ``eval.bias`` takes, or this table would cost more than all distances together."""
GENDER, SMILE = "Male", "Smiling"
TITLE = "Bias: gender and smile"


def bias(run: RunContext) -> tuple[TextTable, Drawing | None] | Absent:
    """Counts gender and smile in the evaluated split and in samples.

    Returns:
        The table and, of a conditional model, the chart over degrees.
    """
    model, protocol = run.model, run.protocol
    dataset = protocol.dataset
    lacking = [label for label in (GENDER, SMILE) if label not in dataset.fields]
    if lacking:
        return Absent(
            f"the data set has no label {' and no label '.join(lacking)}; see python -m eval.bias for other names"
        )
    if "sample" not in model.can:
        return Absent(f"{run.family} does not sample")
    if protocol.split == "train" or "train" not in dataset.splits:
        return Absent("the probes that read samples are fitted on the training split, so it needs a held-out one, too")
    options = BiasOptions(
        gender=GENDER,
        smile=SMILE,
        num_samples=max(2, min(NUM_SAMPLES, protocol.num_samples)),
        num_fit=max(2, min(NUM_FIT, protocol.num_train)),
        num_test=max(2, min(NUM_TEST, protocol.num_images)),
        split=protocol.split,
        seed=protocol.seed,
    )
    found = find_bias(options, model, dataset, run.report.spaces[0], _known(run))
    is_conditional = model.condition is not None
    caption = f"Counts by {GENDER} and {SMILE}; samples are read by probes on EfficientNet-Lite0 features."
    if is_conditional:
        caption += " Turned: samples that change gender when only the degree moves, and p of McNemar's test."
    header = HEADER if is_conditional else HEADER[:-3]
    rows = [table_cells(row)[: len(header)] for row in found.rows]
    table = TextTable(TITLE, caption, header, rows, [*chi_square_lines(found), *found.notes])
    picture = chart(found)
    caption = "Shares of the same samples at each degree, as the probes read them."
    return table, None if picture is None else Drawing(picture, caption)


def _known(run: RunContext) -> KnownFeatures:
    """The features that other parts of the report have looked at."""
    report = run.report
    images = _features({"train": report.train_features, run.protocol.split: report.split_features})
    reconstructions = _features({run.protocol.split: run.get(RECONSTRUCTION_FEATURES)})
    return KnownFeatures(images, reconstructions, _features({"samples": run.sample_features}).get("samples"))


def _features(sets: Mapping[str, FeatureSets | None]) -> dict[str, np.ndarray]:
    return {name: found.sets[SPACES[0].name].bank.ordered() for name, found in sets.items() if found is not None}


PARTS = [
    Part(
        name="bias",
        content="gender and smile in the data and in samples",
        features=Features(),
        group="Bias",
        tables=(RunTable(TITLE, bias, "bias.svg", "Gender and smile over the degree"),),
    )
]
