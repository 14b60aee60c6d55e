"""What a training run reports: its progress lines, curves, held-out metrics, pictures and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from facegen.families.base import Family
from facegen.latents.latent_stats import LatentStats
from facegen.losses.vae import COLLAPSE_NATS_PER_DIM
from facegen.optimization.averages import Averages
from facegen.optimization.state import TrainState
from facegen.options import TrainConfig
from facegen.processes.preemption import StopFlag
from facegen.reporting.held_out import image_batches, pair_batches
from facegen.reporting.monitor import Meter, Monitor, progress_line
from facegen.reporting.pictures import family_grids, pair_grid, reconstruction_grid, sample_grid
from facegen.reporting.validation import HeldOut, metric_names, validate, validate_pairs
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.loading.pairs import Pairs, held_out_pairs, read_pairs

NUM_GRID_IMAGES = 32
_MAX_LEFT_OUT = 0.1
"""Share of the training images that an epoch may leave out without a warning."""

BatchT = TypeVar("BatchT")


class Reporter:
    """Collects what happens on every process, and writes it on the main one.

    Each method that reads faces is a vote of all processes whether to stop, and raises ``Preempted`` on all of them.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        accelerator: Accelerator,
        stop: StopFlag,
        epoch_size: int,
        total_images: int,
    ) -> None:
        """Writes no file before ``open``."""
        self._config = config
        self._dataset = dataset
        self._accelerator = accelerator
        self._stop = stop
        self._epoch_size = epoch_size
        self._total_images = total_images
        self._held_out = next((split for split in ("val", "test") if dataset.num_samples(split)), None)
        self._pairs: Pairs | None = None
        self._window, self._epoch = Averages(), Averages()
        self._meter = Meter()
        self._last_stats: tuple[int, LatentStats] | None = None
        self._monitor = Monitor(None, 0)

    def held_out_metrics(self, family: Family) -> list[str]:
        """Names of the metrics that ``validate`` gives."""
        return metric_names(family) if self._held_out else []

    def open(self, run: Path | None, state: TrainState) -> None:
        """Introduces the run, and continues its files at ``state.images_seen``; no run, no files.

        Raises:
            UserError: A held-out split without the pairs that the family is to be evaluated on.
        """
        if self._held_out and state.family.identity:
            num_pairs = max(2, self._config.monitor.num_validation_images // 2)  # One of each kind at least.
            self._pairs = held_out_pairs(self._dataset, self._held_out, num_pairs, identity=state.family.identity)
        self._monitor = Monitor(run if self._accelerator.is_main_process else None, state.images_seen, self._config)
        num_parameters = sum(parameter.numel() for parameter in state.family.parameters())
        self.say(
            f"{self._config.family}: {num_parameters:,} parameters on {self._epoch_size:,} images an epoch of "
            f"{self._config.data} ({self._dataset.fingerprint}), {self._accelerator.num_processes} process(es) on "
            f"{self._accelerator.device.type}, precision {self._accelerator.mixed_precision}"
        )
        if state.family.decoder_variance is not None:
            self.say(f"beta_eff {state.family.decoder_variance:.4g} (1/2 SSE + beta_eff * KL, pixels in [-1, 1])")
        if self._held_out is None:
            self.say(
                "warning: the data set has no val or test split: no held-out metrics, and training faces in the grids."
            )
        elif self._held_out == "test":
            self.say("warning: the data set has no val split, so training watches the test split.")
        if state.early_stop.is_over:
            self.say(
                f"nothing to do: {self._config.run} {state.early_stop.summary()}; raise --early_stop.patience to train "
                "on."
            )
        elif state.images_seen >= self._total_images:
            self.say(
                f"nothing to do: {self._config.run} has seen {state.images_seen:,} of {self._total_images:,} images; "
                "raise --max_images, --max_steps or --max_epochs to train on."
            )
        else:
            start = "resumes at" if state.images_seen else "trains from"
            self.say(f"{start} {state.images_seen:,} to {self._total_images:,} images")

    def close(self) -> None:
        """Flushes and closes the files."""
        self._monitor.close()

    def say(self, text: str) -> None:
        """Prints a line, once for all processes."""
        if self._accelerator.is_main_process:
            print(text, flush=True)

    def step(self, terms: dict[str, Tensor], step_sec: float, waited_sec: float) -> None:
        """Counts a finished step: its loss terms, its duration, and how much of that was waiting for data."""
        self._window.add(terms)
        self._epoch.add(terms)
        self._meter.step(self._config.global_batch_size, step_sec, waited_sec)

    def log(self, state: TrainState) -> list[str]:
        """Writes the means since the last call; every process must call it at the same step.

        Returns:
            Names of the terms that were not finite on some process, the same on every process.
        """
        terms = self._window.read(self._accelerator)
        images_seen = state.images_seen
        values = {f"train/{name}": value.item() for name, value in terms.items() if value.ndim == 0}
        optim = self._config.optim
        for name, network in {"lr": "", **{f"lr_{network}": network for network in optim.lr_of}}.items():
            values[f"train/{name}"] = optim.lr_at(images_seen, self._total_images, network)
        if "kl_per_dim" in terms:
            self._monitor.vector("train/kl_per_dim", terms["kl_per_dim"], images_seen)
            values["train/dims_with_kl"] = (terms["kl_per_dim"] > COLLAPSE_NATS_PER_DIM).sum().item()
        speed = self._meter.report()
        self._monitor.scalars(values | {f"speed/{name}": value for name, value in speed.items()}, images_seen)
        epoch = images_seen / self._epoch_size
        self.say(progress_line(images_seen, self._total_images, epoch, values | speed))
        return [name for name, value in terms.items() if not value.isfinite().all()]

    def validate(self, state: TrainState) -> dict[str, float]:
        """Evaluates on held-out images; every process must call it at the same step.

        Returns:
            The metrics, the same on every process; none where nothing is held out.
        """
        if self._held_out is None:
            return {}
        family = state.prepare_inference()
        held_out = self._encode(family) if {"encode", "decode"} <= family.can else None
        values = held_out.values if held_out else {}
        if self._pairs:
            batches = pair_batches(
                self._dataset, self._held_out, self._pairs, self._batch_size, self._accelerator, self._stop
            )
            values |= validate_pairs(family, batches, self._pairs.same, self._accelerator)
        if values:
            self._monitor.scalars({f"val/{name}": value for name, value in values.items()}, state.images_seen)
            self.say("held out: " + " | ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if held_out:
            self._last_stats = (state.images_seen, held_out.stats)
            self._monitor.histogram("latents/mu", held_out.mu, state.images_seen)
            self._monitor.histogram("latents/variance_of_mu", held_out.stats.variance, state.images_seen)
        return values

    def measure_latents(self, state: TrainState) -> None:
        """Records how the epoch that ends uses the latent dims, on the images of validation.

        Every process must call it at the same step. The first training images stand in where nothing is held out. An
        epoch at whose end the run is asked to stop is left out.
        """
        if "encode" not in state.family.can:
            return
        if self._last_stats is None or self._last_stats[0] != state.images_seen:
            family = state.prepare_inference()
            self._last_stats = (state.images_seen, self._encode(family, only_encode=True).stats)
        epoch = state.images_seen / self._epoch_size
        self._monitor.latent_usage(self._split, epoch, *self._last_stats)

    def draw(self, state: TrainState) -> None:
        """Draws the same held-out faces and latents each time: reconstructions, samples, and the family's own pictures.

        Every process must call it at the same step; only the main one reads faces and draws.
        """
        batch = self._read_on_main(
            evaluation_batches(
                self._dataset, self._split, NUM_GRID_IMAGES, limit=NUM_GRID_IMAGES, fields=state.family.labels
            )
        )
        pairs = None
        if self._held_out and self._pairs:
            rows, same = self._pairs.rows[: NUM_GRID_IMAGES // 2], self._pairs.same[: NUM_GRID_IMAGES // 2]
            pairs = self._read_on_main(read_pairs(self._dataset, self._held_out, chosen) for chosen in [rows])
        family = state.prepare_inference()
        if batch is None:
            return
        if {"encode", "decode"} <= family.can:
            picture = reconstruction_grid(family, batch.images, batch.labels)
            self._monitor.picture("reconstructions", picture, state.images_seen)
        if "sample" in family.can:
            picture = sample_grid(family, NUM_GRID_IMAGES, self._config.seed)
            self._monitor.picture("samples", picture, state.images_seen)
        if pairs:
            self._monitor.picture("pairs", pair_grid(family, *pairs, torch.from_numpy(same)), state.images_seen)
        for name, picture in family_grids(family, batch.images, batch.labels).items():
            self._monitor.picture(name, picture, state.images_seen)
        self._monitor.latent_heatmap(state.images_seen)

    def warn(self, state: TrainState) -> None:
        """Reports what the family finds wrong with the epoch that ends; every process must call it."""
        terms = self._epoch.read(self._accelerator)
        means = {name: value.item() for name, value in terms.items() if value.ndim == 0}
        for warning in state.family.warnings(means):
            self.say(f"warning: {warning}")
            self._monitor.warning(warning, state.images_seen)

    def warn_of_left_out(self, num_left_out: int) -> None:
        """Says so when an epoch leaves out many training images because they fill no whole batch."""
        total = self._epoch_size + num_left_out
        if num_left_out > _MAX_LEFT_OUT * total:
            self.say(
                f"warning: an epoch trains on {self._epoch_size:,} of {total:,} images, in whole batches of "
                f"{self._config.global_batch_size}; lower --global_batch_size to use more of them."
            )

    def warn_of_another_total(self, previous_total_images: int) -> None:
        """Says so when a resumed run's schedule is stretched or cut."""
        if self._config.optim.schedule == "cosine" and previous_total_images != self._total_images:
            self.say(
                f"warning: the cosine schedule was planned for {previous_total_images:,} images and now ends at "
                f"{self._total_images:,}, so the learning rate jumps."
            )

    @property
    def _split(self) -> str:
        """Split of the faces to watch."""
        return self._held_out or "train"

    @property
    def _batch_size(self) -> int:
        """Images, or pairs, of one pass on this process: as many as training takes."""
        config = self._config
        return config.global_batch_size // self._accelerator.num_processes // config.gradient_accumulation_steps

    def _read_on_main(self, batches: Iterator[BatchT]) -> BatchT | None:
        """The first batch on the main process, None on the others; all of them vote."""
        return next(self._stop.watch(batches if self._accelerator.is_main_process else (), num_votes=1), None)

    def _encode(self, family: Family, only_encode: bool = False) -> HeldOut:
        """Evaluates the split's first images, on all processes."""
        num_images = min(self._config.monitor.num_validation_images, self._dataset.num_samples(self._split))
        batches = image_batches(
            self._dataset, self._split, num_images, self._batch_size, self._accelerator, self._stop, family.labels
        )
        return validate(family, batches, self._accelerator, only_encode=only_encode)
