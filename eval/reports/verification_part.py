"""Verification in a report: pairs drawn from the people of the evaluated split, the same for all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.reports.measures import Measures, verification_measures
from eval.reports.results import Picture, TextTable
from eval.reports.run_pass import Protocol
from eval.verification.classifiers import PairFeatures
from eval.verification.drawn_pairs import draw_pairs
from eval.verification.embeddings import random_latents
from eval.verification.folds import CONTROL, CONTROL_SIZE, Line, Scored, by_latents, by_model, control
from eval.verification.output import HEADER, table_rows
from eval.verification.pair_set import PairSet
from eval.verification.roc import roc_chart
from eval.verification.seen import seen_in_training
from shards.base.errors import UserError

NUM_PAIRS = 6000
IDENTITY = "identity"
"""The label that says who the person is."""
ROC_FILE = "verification_roc.svg"
_TITLE = "Verification"


@dataclass(frozen=True)
class Judged:
    """What the pairs say of one run."""

    scored: list[Scored]
    note: str
    """What of the pairs it has seen in training."""


@dataclass
class Verification:
    """The pairs, and what was found so far."""

    protocol: Protocol
    pairs: PairSet | None = None
    absent: str = ""
    """Why there are no pairs."""
    control_lines: list[Line] = field(default_factory=list)
    control_curve: Scored | None = None
    judged: dict[str, Judged] = field(default_factory=dict)
    """Of each run that encodes, by its name."""

    @classmethod
    def start(cls, protocol: Protocol) -> Verification:
        """Draws the pairs and judges random latents on them."""
        try:
            pairs = draw_pairs(protocol.dataset, (protocol.split,), NUM_PAIRS, protocol.seed, IDENTITY)
        except UserError:
            reason = f"split {protocol.split} of the data set does not name at least four people with two images each"
            return cls(protocol, absent=f"{reason}; pack one with the label {IDENTITY}, or use python -m eval.verify")
        latents = random_latents(pairs.num_images, CONTROL_SIZE, protocol.seed, draw=0)
        scored, _ = by_latents(CONTROL, latents, pairs, (), PairFeatures())
        return cls(protocol, pairs, "", control(pairs, (), PairFeatures(), protocol.seed), scored[0])

    def measure(self, label: str, model: Any) -> Measures:
        """Judges a run's latents on the pairs."""
        if self.pairs is None:
            return verification_measures(None, self.absent)
        if "encode" not in model.can:
            return verification_measures(None, f"{model.family} does not encode")
        dataset = self.protocol.dataset
        scored, _ = by_model(label, model, dataset, self.pairs, (), PairFeatures(), self.protocol.batch_size)
        self.judged[label] = Judged(scored, f"{label}: {seen_in_training(model, dataset, self.pairs, IDENTITY)}")
        cosine = next(result.line for result in scored if result.line.method == "cosine")
        return verification_measures(cosine, "", self.control_lines[0].accuracy.mean)

    def tables(self) -> list[TextTable]:
        """Every score of every run, and the control."""
        if self.pairs is None or not self.judged:
            return []
        lines = [result.line for judged in self.judged.values() for result in judged.scored]
        caption = (
            f"{len(self.pairs.same):,} pairs drawn from the label {IDENTITY}, half of them of one person, of "
            f"{self.pairs.num_images:,} images in {self.pairs.num_folds} folds that share no person; thresholds come "
            "from the other folds, EER, AUC and TAR from all folds' scores together. For classifiers, LFW's own pairs "
            "and the worst mistakes: python -m eval.verify."
        )
        rows = table_rows([*lines, *self.control_lines])
        notes = [judged.note for judged in self.judged.values()]
        return [TextTable(_TITLE, caption, HEADER, rows, notes, num_text_columns=2)]

    def picture(self) -> tuple[Picture, str] | None:
        """The ROC of each run's first score, and that of random latents."""
        if self.pairs is None or not self.judged or self.control_curve is None:
            return None
        curves: Sequence[Scored] = [*(judged.scored[0] for judged in self.judged.values()), self.control_curve]
        title = "ROC of verification"
        picture = Picture(ROC_FILE, title, "Of the same drawn pairs for all runs; the diagonal is chance.")
        return picture, roc_chart(curves, self.pairs.same, title)
