"""What one pass over the evaluated split accumulates, for one part of a report or for several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from eval.base.ranks import Mergeable
from eval.features.row_bank import RowBank
from eval.metrics.latent_usage import LatentStatistics, LatentUsage
from eval.reports.context import ReportContext
from facegen.pixels import to_float
from shards.loading.batch import Batch

MAX_LATENTS = 20_000
"""Latents kept for histograms, sweeps and maps."""

AccumulatorT = TypeVar("AccumulatorT", bound=Mergeable)
ResultT = TypeVar("ResultT")


class SplitBatch:
    """Some images of the split; latents and reconstructions are computed once, when a statistic asks for them."""

    def __init__(self, model: Any, report: ReportContext, batch: Batch) -> None:
        """Moves the images to the model's device.

        Args:
            model: As ``facegen.model.load`` returns it.
            report: With the device and the protocol.
            batch: As the loader gives it.
        """
        self.model, self.report, self.labels = model, report, batch.labels
        self.images = to_float(batch.images.to(report.device))
        """float (N, C, H, W) in [-1, 1]."""
        self.rows: np.ndarray = batch.rows.numpy()
        """int64 (N,): rows of the split."""

    @cached_property
    def posterior(self) -> tuple[Tensor, Tensor | None]:
        """Mu (N, L), and logvar (N, L) of a probabilistic encoder."""
        return self.model.posterior(self.images, self.labels)

    @property
    def mu(self) -> Tensor:
        """The posterior's mean, (N, L)."""
        return self.posterior[0]

    @cached_property
    def reconstructions(self) -> Tensor:
        """Decoded from mu: float (N, C, H, W), nominally in [-1, 1]."""
        return self.decode(self.mu)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, L) as images of the batch's own labels, float (N, C, H, W)."""
        return self.model.decode(latents, self.labels)


@dataclass(frozen=True, eq=False)
class Statistic(Generic[AccumulatorT, ResultT]):
    """Something that the pass accumulates; parts that share one accumulate it once.

    Attributes:
        start: Makes an empty accumulator for a model; None where the statistic does not apply to it.
        add: Adds a batch to the accumulator.
        finish: Turns the accumulator over all ranks into the result that parts see.
        needs: What the model must do, in the words of ``Model.can``.
    """

    start: Callable[[Any, ReportContext], AccumulatorT | None]
    add: Callable[[AccumulatorT, SplitBatch], None]
    finish: Callable[[AccumulatorT], ResultT]
    needs: tuple[str, ...] = ()


class Results:
    """The finished statistics of one run; each is finished when it is first asked for."""

    def __init__(self, accumulators: Mapping[Statistic[Any, Any], Any]) -> None:
        """Takes what the pass accumulated over all ranks, by statistic."""
        self._accumulators = accumulators
        self._finished: dict[Statistic[Any, Any], Any] = {}

    def get(self, statistic: Statistic[Any, ResultT]) -> ResultT | None:
        """The result; None where the model cannot do what the statistic needs."""
        if statistic not in self._accumulators:
            return None
        if statistic not in self._finished:
            self._finished[statistic] = statistic.finish(self._accumulators[statistic])
        return self._finished[statistic]


def _add_usage(usage: LatentStatistics, batch: SplitBatch) -> None:
    usage.update(*batch.posterior)


def _add_latents(bank: RowBank, batch: SplitBatch) -> None:
    bank.update(batch.rows, batch.mu.cpu().numpy())


def _finish_usage(usage: LatentStatistics) -> LatentUsage:
    return usage.usage()


USAGE = Statistic(lambda model, _: LatentStatistics.empty(model.latent_size), _add_usage, _finish_usage, ("encode",))
"""How the latent dims are used."""
LATENTS = Statistic(lambda *_: RowBank(MAX_LATENTS), _add_latents, RowBank.ordered, ("encode",))
"""mu of the first images, float32 (n, L)."""
