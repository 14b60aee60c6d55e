"""What the server holds: runs, the data set, uploads, and trainings in progress."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from eval.base.runs import distinct_names
from eval.latent.attribute_vectors import load_attributes
from eval.latent.conditions import describe_condition
from eval.latent.editing.editor import Editor
from eval.latent.editing.uploads import Uploads
from eval.latent.origin import snapshot_identity
from eval.latent.photo import MAX_UPLOAD_BYTES, MAX_UPLOAD_PIXELS, UPLOAD_FORMATS
from eval.latent.photo_framing import AlignChoice, photo_alignment
from eval.latent.tools.tsne import held_out_split
from eval.studio.running import Training, is_run
from facegen.model import Model, load
from facegen.runs.run_name import parse_run
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.images.codecs import encode
from shards.loading.reader import Reader


class Studio:
    """Answers all requests.

    Attributes:
        runs: Editors of the runs that decode, by name, in the order given.
        trainings: Trainings by name, with or without a snapshot.
        dataset: The faces to pick from, or None.
        uploads: Photos and latents.
        notes: Sentences about runs that are not shown, or whose samples are unlikely to be faces, and about attributes
            of faces in another framing.
    """

    def __init__(
        self,
        paths: Sequence[str],
        data: str | None = None,
        *,
        attributes: Sequence[str] = (),
        align: AlignChoice = "auto",
        align_margin: float = 0.0,
        device: str = "cpu",
    ) -> None:
        """Loads the runs.

        Args:
            paths: Run directories, ``RUN:SAMPLER``, or snapshot directories.
            data: Packed data set.
            attributes: Files of ``eval.attributes fit``.
            align: The template of photos, where a recipe asks for it; as ``photo_alignment``.
            align_margin: Of the template.
            device: Device to compute on.

        Raises:
            UserError: There is nothing to show, or runs and data do not match.
        """
        self.dataset = None if data is None else open_dataset(data)
        self.uploads = Uploads()
        self.trainings: dict[str, Training] = {}
        self.notes: list[str] = []
        origins = {path: load_attributes(path)[1] for path in attributes}
        models = [model for path in paths if (model := self._load(path, device)) is not None]
        self.runs = {
            name: Editor(
                name, model, self.dataset, attributes, self.uploads, photo_alignment(model, align, align_margin)
            )
            for name, model in zip(distinct_names(models), models, strict=True)
        }
        for model, (path, origin) in product(models, origins.items()):
            note = origin.other_framing(model, path)
            if note and origin.snapshot == snapshot_identity(model):
                self.notes.append(note)
        if not self.runs and not self.trainings:
            raise UserError(f"there is nothing to show: {' '.join(self.notes)}")

    def run(self, name: str) -> Editor:
        """A run by name.

        Raises:
            UserError: Unknown name.
        """
        if name not in self.runs:
            raise UserError(f"there is no run of this name; there are {', '.join(self.runs) or 'none yet'}.")
        return self.runs[name]

    def training(self, name: str) -> Training:
        """The training of a run, by name.

        Raises:
            UserError: Unknown name.
        """
        if name not in self.trainings:
            raise UserError(f"there is no training of this name; there are {', '.join(self.trainings) or 'none'}.")
        return self.trainings[name]

    def faces(self, split: str, first: int, num: int) -> list[dict[str, Any]]:
        """Faces of the data set with their keys and known labels.

        Raises:
            UserError: No data set, or no such split.
        """
        dataset = self._data(split)
        rows = range(min(first, dataset.num_samples(split)), min(first + num, dataset.num_samples(split)))
        return [{"row": row, "key": dataset.key(split, row), "labels": self._labels(split, row)} for row in rows]

    def face_picture(self, split: str, row: int) -> bytes:
        """One face of the data set as PNG.

        Raises:
            UserError: No data set, split or row.
        """
        dataset = self._data(split)
        if row >= dataset.num_samples(split):
            raise UserError(f"the {split} split has no row {row}.")
        image = np.empty((1, dataset.image.height, dataset.image.width, dataset.image.channels), np.uint8)
        self._readers[split].read_images(np.array([row]), image)
        return encode(image[0], "png")

    def describe(self) -> dict[str, Any]:
        """Everything that a page must know before it asks for faces."""
        return {
            "runs": [_describe_run(run) for run in self.runs.values()],
            "data": None if self.dataset is None else self._describe_data(self.dataset),
            "trainings": list(self.trainings),
            "notes": self.notes,
            "upload": {
                "max_bytes": MAX_UPLOAD_BYTES,
                "max_pixels": MAX_UPLOAD_PIXELS,
                "formats": list(UPLOAD_FORMATS),
            },
        }

    def _load(self, path: str, device: str) -> Model | None:
        """Loads a run; None where only its training, if anything, can be shown."""
        try:
            model = load(path, device=device)
        except UserError as error:
            run = parse_run(path).path
            if not is_run(run):
                raise
            self._add_training(run)
            self.notes.append(f"Only the training of {run.resolve().name} is shown: {error}")
            return None
        if model.run_dir is not None:
            self._add_training(model.run_dir)
        if "decode" not in model.can:
            self.notes.append(f"{model.name} is of the family {model.family}, which cannot decode faces.")
            return None
        if model.prior_note and not model.samplers:
            self.notes.append(model.prior_note)
        return model

    def _add_training(self, run: Path) -> None:
        run = run.resolve()
        if any(training.run == run for training in self.trainings.values()):
            return
        same = sum(training.run.name == run.name for training in self.trainings.values())
        name = f"{run.name} ({same + 1})" if same else run.name
        self.trainings[name] = Training(name, run)

    def _data(self, split: str) -> Dataset:
        if self.dataset is None:
            raise UserError("the studio was started without --data DIR, so there are no faces to pick.")
        if split not in self.dataset.splits:
            raise UserError(f"there is no split of this name; there are {', '.join(self.dataset.splits)}.")
        return self.dataset

    def _labels(self, split: str, row: int) -> dict[str, Any]:
        assert self.dataset is not None
        labels: dict[str, Any] = {}
        for name, field in self.dataset.fields.items():
            value = self.dataset.labels(name, split)[row]
            if field.kind == "float":
                if not np.isnan(value):
                    labels[name] = round(float(value), 3)
            elif value != field.missing:
                labels[name] = bool(value) if field.kind == "bool" else field.classes[value]
        return labels

    @cached_property
    def _readers(self) -> dict[str, Reader]:
        assert self.dataset is not None
        return {split: Reader(self.dataset, split) for split in self.dataset.splits}

    def _describe_data(self, dataset: Dataset) -> dict[str, Any]:
        return {
            "name": dataset.manifest.name,
            "splits": {split: dataset.num_samples(split) for split in dataset.splits},
            "held_out": held_out_split(dataset),
            "labels": list(dataset.fields),
        }


def _describe_run(run: Editor) -> dict[str, Any]:
    model = run.model
    channels, height, width = model.image_shape
    return {
        "name": run.name,
        "family": model.family,
        "can": sorted(model.can),
        "channels": channels,
        "height": height,
        "width": width,
        "latent_size": model.latent_size,
        "condition": describe_condition(model),
        "sampler": model.sampler,
        "samplers": model.samplers,
        "aligns": run.aligns,
        "images_seen": model.images_seen,
        "num_parameters": model.num_parameters,
    }
