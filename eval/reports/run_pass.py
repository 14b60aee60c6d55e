"""The two passes over one model: the split through encoder and decoder, and samples from the prior."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from eval.base.ranks import Mergeable, merge_ranks
from eval.features.feature_set import FeatureSets
from eval.latent.sample_conditions import sample_labels
from eval.reports.context import ReportContext
from eval.reports.part import NUM_QUERIES, Amount
from eval.reports.statistic import SplitBatch, Statistic
from facegen.degrees import condition_fields
from facegen.pixels import to_uint8
from shards.base.progress import ProgressLine
from shards.loading.loader import evaluation_batches

Accumulators = dict[Statistic[Any, Any], Any]
"""What each statistic has accumulated."""


@dataclass
class _Together:
    """The accumulators of one rank, which travel without their statistics: functions cannot be sent."""

    accumulators: Sequence[Mergeable]

    def merge(self, other: _Together) -> _Together:
        pairs = zip(self.accumulators, other.accumulators, strict=True)
        return _Together([ours.merge(theirs) for ours, theirs in pairs])


def run_split(
    model: Any, report: ReportContext, statistics: Iterable[Statistic[Any, Any]], accelerator: Accelerator
) -> Accumulators:
    """Takes the evaluated split through a model, each image once over all ranks.

    Args:
        model: As ``facegen.model.load`` returns it.
        report: The split and how to go through it.
        statistics: What the chosen parts need.
        accelerator: The ranks.

    Returns:
        Over all ranks, those statistics that apply to the model. Nothing is read where none does.
    """
    able = [statistic for statistic in dict.fromkeys(statistics) if set(statistic.needs) <= model.can]
    started = {statistic: statistic.start(model, report) for statistic in able}
    started = {statistic: accumulator for statistic, accumulator in started.items() if accumulator is not None}
    if not started:
        return {}
    protocol = report.protocol
    batches = evaluation_batches(
        protocol.dataset,
        protocol.split,
        protocol.batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        limit=protocol.num_images,
        fields=condition_fields(model.condition, protocol.dataset),
    )
    own_images = -(-protocol.num_images // accelerator.num_processes)
    with (
        ProgressLine(protocol.split, own_images, quiet=not accelerator.is_main_process) as progress,
        torch.inference_mode(),
    ):
        for batch in batches:
            images = SplitBatch(model, report, batch)
            for statistic, accumulator in started.items():
                statistic.add(accumulator, images)
            progress.update(len(batch.rows))
    merged = merge_ranks(_Together(list(started.values())))
    return dict(zip(started, merged.accumulators, strict=True))


def run_samples(model: Any, report: ReportContext, amount: Amount, accelerator: Accelerator) -> FeatureSets | None:
    """Features of a model's samples, over all ranks; None for a model that does not sample.

    Sample i of a seed is the same image for every number of ranks and batch size; a conditional model's has the label
    of row i of the split.

    Args:
        model: As ``facegen.model.load`` returns it.
        report: The feature spaces, and how many samples to take.
        amount: How many the parts need.
        accelerator: The ranks.
    """
    if "sample" not in model.can or amount == Amount.NONE:
        return None
    protocol = report.protocol
    is_few = amount == Amount.FEW
    num_samples = min(protocol.num_samples, NUM_QUERIES) if is_few else protocol.num_samples
    spaces = report.spaces[:1] if is_few else report.spaces
    features = FeatureSets.empty(spaces)
    stride = protocol.batch_size * accelerator.num_processes
    starts = range(protocol.batch_size * accelerator.process_index, num_samples, stride)
    own_samples = -(-num_samples // accelerator.num_processes)
    with ProgressLine("samples", own_samples, quiet=not accelerator.is_main_process) as progress:
        for first in starts:
            num = min(protocol.batch_size, num_samples - first)
            labels = sample_labels(model, protocol.dataset, protocol.split, protocol.num_images, first, num)
            images = to_uint8(model.sample(num, seed=protocol.seed, first=first, labels=labels))
            features.update(spaces, torch.arange(first, first + num).numpy(), images)
            progress.update(num)
    return merge_ranks(features)
