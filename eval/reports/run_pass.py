"""The passes over one model: the split through encoder and decoder, samples, and reconstructed training faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from eval.base.ranks import Mergeable, merge_ranks
from eval.features.feature_set import FeatureSets
from eval.features.spaces import FeatureSpace
from eval.latent.conditions import condition_labels
from eval.latent.faces import read_faces
from eval.latent.sample_conditions import sample_labels
from eval.reports.context import Protocol, ReportContext
from eval.reports.part import NUM_QUERIES, Amount
from eval.reports.statistic import SplitBatch, Statistic
from eval.stand_ins.baselines import training_rows
from facegen.degrees import condition_fields
from facegen.pixels import to_uint8
from facegen.processes.consensus import all_do
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
        Those statistics that apply to the model, on the main rank over all ranks. Nothing is read where none does.
    """
    able = [statistic for statistic in dict.fromkeys(statistics) if set(statistic.needs) <= model.can]
    started = {statistic: statistic.start(model, report) for statistic in able}
    started = {statistic: accumulator for statistic, accumulator in started.items() if accumulator is not None}
    if not started:
        return {}
    protocol = report.protocol
    own_images = -(-protocol.num_images // accelerator.num_processes)

    def accumulate() -> None:
        batches = evaluation_batches(
            protocol.dataset,
            protocol.split,
            protocol.batch_size,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            limit=protocol.num_images,
            fields=condition_fields(model.condition, protocol.dataset),
        )
        with (
            ProgressLine(protocol.split, own_images, quiet=not accelerator.is_main_process) as progress,
            torch.inference_mode(),
        ):
            for batch in batches:
                images = SplitBatch(model, report, batch)
                for statistic, accumulator in started.items():
                    statistic.add(accumulator, images)
                progress.update(len(batch.rows))

    all_do(accumulate)
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

    def sample(first: int, num: int) -> Tensor:
        labels = sample_labels(model, protocol.dataset, protocol.split, protocol.num_images, first, num)
        return to_uint8(model.sample(num, seed=protocol.seed, first=first, labels=labels))

    return _made_features("samples", sample, num_samples, spaces, protocol, accelerator)


def run_others(model: Any, report: ReportContext, accelerator: Accelerator) -> FeatureSets | None:
    """Features of a model's reconstructions of training images, as many as samples, over all ranks.

    They are images of other people than the split's, as samples are, so their distances stand on one scale. The
    baseline of real faces has the same ones.

    Returns:
        None for a model that does not reconstruct, and without a training split beside the evaluated one and the
        reference of the distances.
    """
    protocol, dataset = report.protocol, report.protocol.dataset
    others = set(dataset.splits) - {protocol.split, *protocol.reference_splits}
    if not {"encode", "decode"} <= model.can or "train" not in others:
        return None

    def reconstruct(first: int, num: int) -> Tensor:
        rows = training_rows(dataset.num_samples("train"), protocol.seed, first, num)
        faces = read_faces(model, dataset, "train", rows)
        return torch.from_numpy(model.decode(faces.encode(model), condition_labels(model, faces.degrees)))

    return _made_features(
        "reconstructed training faces", reconstruct, protocol.num_samples, report.spaces, protocol, accelerator
    )


def _made_features(
    what: str,
    make: Callable[[int, int], Tensor],
    num_images: int,
    spaces: Sequence[FeatureSpace],
    protocol: Protocol,
    accelerator: Accelerator,
) -> FeatureSets:
    """Features of ``num_images`` images, over all ranks; ``make(first, num)`` returns some as uint8 N x H x W x C."""
    features = FeatureSets.empty(spaces)
    stride = protocol.batch_size * accelerator.num_processes
    own_images = -(-num_images // accelerator.num_processes)

    def extract() -> None:
        with ProgressLine(what, own_images, quiet=not accelerator.is_main_process) as progress:
            for first in range(protocol.batch_size * accelerator.process_index, num_images, stride):
                num = min(protocol.batch_size, num_images - first)
                features.update(spaces, np.arange(first, first + num), make(first, num))
                progress.update(num)

    all_do(extract)
    return merge_ranks(features)
