"""What the parts of a report see: one run, or all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.features.feature_set import FeatureSets
from eval.latent.faces import Faces
from eval.reports.context import NUM_FACES, Protocol, ReportContext
from eval.reports.results import RunResult
from eval.reports.statistic import Results, ResultT, Statistic
from eval.stand_ins.stand_in import StandIn
from facegen.model import Model


@dataclass(frozen=True)
class RunContext:
    """One run, as its parts measure and draw it."""

    report: ReportContext
    label: str
    """What the report calls the run."""
    model: Any
    """As ``facegen.model.load`` returns it."""
    result: RunResult
    """The result being made, for what is neither a number nor a picture."""
    statistics: Results = field(default_factory=lambda: Results({}))
    sample_features: FeatureSets | None = None
    """Of samples, as many as the parts need; None where none does or the model does not sample."""
    other_features: FeatureSets | None = None
    """Of reconstructed training images; None where no part needs them or the model makes none."""
    is_finite: bool = True
    """Whether the model's outputs are numbers; those of a diverged one are not."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What parts keep of the run for the comparison of all runs, by the part's name."""

    @property
    def protocol(self) -> Protocol:
        """What is measured on."""
        return self.report.protocol

    @property
    def family(self) -> str:
        """Of the model."""
        return self.model.family

    def get(self, statistic: Statistic[Any, ResultT]) -> ResultT | None:
        """What the pass over the split gave; None where the model cannot do what the statistic needs."""
        return self.statistics.get(statistic)

    def __getitem__(self, statistic: Statistic[Any, ResultT]) -> ResultT:
        """The same, for parts whose own needs include the statistic's."""
        result = self.get(statistic)
        assert result is not None, "a part that uses a statistic lists it, and needs what the statistic needs"
        return result

    def faces(self, num: int = NUM_FACES) -> Faces:
        """Evaluated faces, with the degrees that the model is conditioned on."""
        return self.report.faces(self.model, num)


@dataclass(frozen=True)
class AllRuns:
    """All runs, for what shows them side by side."""

    report: ReportContext
    models: Sequence[tuple[str, Model | StandIn]]
    """Each with its label, in the report's order; stand-ins only for parts with ``of_stand_ins``."""
    kept: Mapping[str, Any]
    """What one part has kept of each run, by the run's label."""
