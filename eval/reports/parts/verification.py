"""Verification: pairs drawn from the people of the evaluated split, the same for all runs."""

from __future__ import annotations

from dataclasses import dataclass

from eval.reports.context import ReportContext
from eval.reports.part import Absent, Measures, Part, Setup, Shared, SideBySide, missing
from eval.reports.results import Measure, Metric, Picture, TextTable
from eval.reports.run_context import AllRuns, RunContext
from eval.verification.classifiers import PairFeatures
from eval.verification.drawn_pairs import draw_pairs
from eval.verification.embeddings import random_latents
from eval.verification.folds import CONTROL, CONTROL_SIZE, Line, Scored, by_latents, by_model, control
from eval.verification.output import HEADER, table_rows
from eval.verification.pair_set import PairSet
from eval.verification.roc import roc_chart
from eval.verification.seen import seen_in_training
from shards.base.errors import UserError

NAME, TITLE, ROC_TITLE = "verification", "Verification", "ROC of verification"
ROC_FILE = "verification_roc.svg"
NUM_PAIRS = 6000
IDENTITY = "identity"
"""The label that says who the person is."""
GROUP = "Verification of drawn pairs, cosine of mu"
ROWS = (
    Metric(
        "verification_accuracy",
        "Verification accuracy",
        GROUP,
        "%",
        "higher",
        ".2f",
        "at the threshold of the other folds, mean ± standard error; chance is 50",
    ),
    Metric(
        "verification_eer",
        "Equal error rate",
        GROUP,
        "%",
        "lower",
        ".2f",
        "false accepts are as frequent as false rejects",
    ),
    Metric(
        "verification_tar",
        "TAR at FAR 0.001",
        GROUP,
        "%",
        "higher",
        ".2f",
        "true accepts where one of 1,000 pairs of two people is accepted",
    ),
)


@dataclass(frozen=True)
class DrawnPairs:
    """The pairs, and random latents judged on them."""

    pairs: PairSet
    control_lines: list[Line]
    control_curve: Scored


@dataclass(frozen=True)
class JudgedRun:
    """What the pairs say of one run."""

    scored: list[Scored]
    note: str
    """Which of the pairs it has seen in training."""


def draw(report: ReportContext) -> DrawnPairs | Absent:
    """Draws the pairs and judges random latents on them."""
    protocol = report.protocol
    try:
        pairs = draw_pairs(protocol.dataset, (protocol.split,), NUM_PAIRS, protocol.seed, IDENTITY)
    except UserError:
        reason = f"split {protocol.split} of the data set does not name at least four people with two images each"
        return Absent(f"{reason}; pack one with the label {IDENTITY}, or use python -m eval.verify")
    latents = random_latents(pairs.num_images, CONTROL_SIZE, protocol.seed, draw=0)
    scored, _ = by_latents(CONTROL, latents, pairs, (), PairFeatures())
    return DrawnPairs(pairs, control(pairs, (), PairFeatures(), protocol.seed), scored[0])


def measure(run: RunContext) -> Measures:
    """Judges a run's latents on the pairs; the numbers are those of the cosine, in percent."""
    keys, drawn = [row.key for row in ROWS], run.report.prepared[NAME]
    if isinstance(drawn, Absent):
        return missing(keys, drawn.reason)
    if "encode" not in run.model.can:
        return missing(keys, f"{run.family} does not encode")
    dataset, pairs = run.protocol.dataset, drawn.pairs
    scored, _ = by_model(run.label, run.model, dataset, pairs, (), PairFeatures(), run.protocol.batch_size)
    seen = seen_in_training(run.model, dataset, pairs, IDENTITY)
    run.kept[NAME] = JudgedRun(scored, f"{run.label}: {seen}")
    line = next(result.line for result in scored if result.line.method == "cosine")
    note = f"random latents on the same pairs: {100 * drawn.control_lines[0].accuracy.mean:.1f} %"
    return {
        "verification_accuracy": Measure(
            100 * line.accuracy.mean, spread=100 * line.accuracy.standard_error, note=note
        ),
        "verification_eer": Measure(100 * line.discrimination.equal_error_rate),
        "verification_tar": Measure(100 * line.discrimination.true_accept_rate),
    }


def compare(runs: AllRuns) -> Shared | Absent:
    """Every score of every run and the control, and the ROC of each run's first score."""
    drawn = runs.report.prepared[NAME]
    if isinstance(drawn, Absent):
        return drawn
    judged: list[JudgedRun] = list(runs.kept.values())
    if not judged:
        return Absent("no run encodes")
    pairs = drawn.pairs
    caption = (
        f"{len(pairs.same):,} pairs drawn from the label {IDENTITY}, half of them of one person, of "
        f"{pairs.num_images:,} images in {pairs.num_folds} folds that share no person; thresholds come "
        "from the other folds, EER, AUC and TAR from all folds' scores together. For classifiers, LFW's own pairs "
        "and the worst mistakes: python -m eval.verify."
    )
    rows = table_rows([*(result.line for run in judged for result in run.scored), *drawn.control_lines])
    table = TextTable(TITLE, caption, HEADER, rows, [run.note for run in judged], num_text_columns=2)
    chart = roc_chart([*(run.scored[0] for run in judged), drawn.control_curve], pairs.same, ROC_TITLE)
    picture = Picture(ROC_FILE, ROC_TITLE, "Of the same drawn pairs for all runs; the diagonal is chance.")
    return Shared([(picture, chart)], [table])


PARTS = [
    Part(
        name=NAME,
        content="pairs of one person told from pairs of two, and the ROC",
        rows=ROWS,
        summary=("verification_accuracy",),
        measure=measure,
        prepare=Setup("verification: pairs and control", draw),
        compare=SideBySide(TITLE, compare, JudgedRun),
    )
]
