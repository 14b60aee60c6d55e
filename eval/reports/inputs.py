"""What a report is given, opened on every rank: the data set, and the runs at the snapshots that the main one finds."""

from __future__ import annotations

from functools import partial

import torch

from eval.base.runs import open_run
from eval.latent.origin import snapshot_identity
from eval.reports.options import ReportConfig
from eval.stand_ins.image_files import PREFIXES, open_image_files
from eval.stand_ins.stand_in import StandIn
from facegen.model import Model
from facegen.processes.consensus import all_do, check_same, main_decides
from facegen.runs.run_name import parse_run
from facegen.runs.snapshot import SAMPLERS, find_snapshot
from facegen.samplers.fitted import TENSORS
from shards.base.hub_address import hub_address
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.dataset.tar import sha256_file
from shards.loading.reader import check_split


def open_evaluated(config: ReportConfig) -> Dataset:
    """Opens the data set, with the splits that the report needs.

    Raises:
        UserError: On every rank, if it is not there on one of them, lacks a split, or differs between them.
    """

    def open_here() -> Dataset:
        dataset = open_dataset(config.data)
        for split in {config.split, config.reference} - {None, "all"}:
            for part in dataset.parts:
                check_split(part, split)
        return dataset

    dataset = all_do(open_here)
    check_same(dataset.fingerprint, f"the fingerprint of {config.data}")
    return dataset


def open_models(config: ReportConfig, dataset: Dataset, device: torch.device) -> list[Model | StandIn]:
    """Opens what the report evaluates. A run that still trains is taken at the snapshot that the main rank finds.

    Raises:
        UserError: On every rank, if one cannot open it, or has other weights or images than the main one.
    """
    models = []
    for path in config.runs:
        found = main_decides(partial(_snapshot_of, path))
        model = all_do(partial(_open, found, dataset, device, config))
        check_same(_identity(model), f"what is evaluated as {path}")
        models.append(model)
    return models


def _snapshot_of(path: str) -> str:
    """The snapshot that a run's name stands for now, with the sampler."""
    if path.startswith(PREFIXES):
        return path
    run, sampler = parse_run(path)
    if not run.exists() and hub_address(run.as_posix()):
        return path  # Every machine downloads it into a place of its own.
    return str(find_snapshot(run)) + (f":{sampler}" if sampler else "")


def _open(path: str, dataset: Dataset, device: torch.device, config: ReportConfig) -> Model | StandIn:
    if path.startswith(PREFIXES):
        return open_image_files(path, dataset.image)
    return open_run(path, dataset, device, config.weights)


def _identity(model: Model | StandIn) -> str:
    """What must be the same on all ranks; of image files only their number, since copies have other times."""
    if isinstance(model, StandIn):
        return f"{model.num_images} images"
    identity = f"weights {snapshot_identity(model)}"
    if model.sampler is None or model.run_dir is None:
        return identity
    return f"{identity} with sampler {sha256_file(model.run_dir / SAMPLERS / model.sampler / TENSORS)[:24]}"
