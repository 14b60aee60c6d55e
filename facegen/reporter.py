"""What a training run tells: its progress lines, curves, held-out metrics, pictures and warnings."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from facegen.averages import Averages
from facegen.config import TrainConfig
from facegen.monitor import Meter, Monitor, progress_line
from facegen.optim import lr_at
from facegen.pictures import reconstruction_grid, sample_grid
from facegen.preemption import StopFlag
from facegen.state import TrainState
from facegen.validation import validate
from shards.dataset import Dataset
from shards.loader import evaluation_batches

COLLAPSE_NATS_PER_DIM = 0.05
NUM_GRID_IMAGES = 32


class Reporter:
    """Collects what happens on every process, and tells it on the main one."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, accelerator: Accelerator, epoch_size: int, total_images: int
    ) -> None:
        """Writes no file before ``open``."""
        self._config = config
        self._dataset = dataset
        self._accelerator = accelerator
        self._epoch_size = epoch_size
        self._total_images = total_images
        self._held_out = next((split for split in ("val", "test") if dataset.num_samples(split)), None)
        self._window, self._epoch = Averages(), Averages()
        self._meter = Meter()
        self._monitor = Monitor(None, 0)

    def open(self, run: Path | None, state: TrainState) -> None:
        """Introduces the run, and continues its files at ``state.images_seen``; no run, no files."""
        self._monitor = Monitor(run if self._accelerator.is_main_process else None, state.images_seen)
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
        if state.images_seen >= self._total_images:
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
        self._epoch.add({name: value for name, value in terms.items() if name == "kl_per_dim"})
        self._meter.step(self._config.global_batch_size, step_sec, waited_sec)

    def log(self, state: TrainState) -> None:
        """Writes the means since the last call; every process must call it at the same step."""
        terms = self._window.read(self._accelerator)
        images_seen = state.images_seen
        values = {f"train/{name}": value.item() for name, value in terms.items() if value.ndim == 0}
        values["train/lr"] = lr_at(self._config.optim, images_seen, self._total_images)
        if "kl_per_dim" in terms:
            self._monitor.vector("train/kl_per_dim", terms["kl_per_dim"], images_seen)
            values["train/active_dims"] = (terms["kl_per_dim"] > COLLAPSE_NATS_PER_DIM).sum().item()
        speed = self._meter.report()
        self._monitor.scalars(values | {f"speed/{name}": value for name, value in speed.items()}, images_seen)
        epoch = images_seen / self._epoch_size
        self.say(progress_line(images_seen, self._total_images, epoch, values | speed))

    def validate(self, state: TrainState, stop: StopFlag) -> None:
        """Evaluates on held-out images; every process must call it at the same step."""
        if self._held_out is None:
            return
        config = self._config
        batch_size = config.global_batch_size // self._accelerator.num_processes // config.gradient_accumulation_steps
        num_images = min(config.monitor.num_validation_images, self._dataset.num_samples(self._held_out))
        family = state.inference_family.eval()
        values, latents = validate(
            family, self._dataset, self._held_out, num_images, batch_size, self._accelerator, stop
        )
        if values:
            self._monitor.scalars({f"val/{name}": value for name, value in values.items()}, state.images_seen)
            self.say("held out: " + " | ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if latents is not None:
            self._monitor.histogram("latents/mu", latents, state.images_seen)
            self._monitor.histogram("latents/variance_of_mu", latents.var(0, correction=0), state.images_seen)

    def draw(self, state: TrainState) -> None:
        """Draws reconstructions of always the same held-out faces, and samples of always the same latents."""
        if not self._accelerator.is_main_process:
            return
        family = state.inference_family.eval()
        if {"encode", "decode"} <= family.can:
            split = self._held_out or "train"
            batch = next(evaluation_batches(self._dataset, split, NUM_GRID_IMAGES, limit=NUM_GRID_IMAGES))
            picture = reconstruction_grid(family, batch.images, batch.labels)
            self._monitor.picture("reconstructions", picture, state.images_seen)
        if "sample" in family.can:
            picture = sample_grid(family, NUM_GRID_IMAGES, self._config.seed)
            self._monitor.picture("samples", picture, state.images_seen)

    def warn_of_collapse(self) -> None:
        """Says so when the latents of the last epoch carried next to nothing; every process must call it."""
        kl_per_dim = self._epoch.read(self._accelerator).get("kl_per_dim")
        if kl_per_dim is not None and kl_per_dim.mean() < COLLAPSE_NATS_PER_DIM:
            self.say(
                f"warning: posterior collapse: mean KL over the last epoch is {kl_per_dim.mean():.4f} nats per dim "
                f"(below {COLLAPSE_NATS_PER_DIM}); lower --model.kld_weight, or warm it up with --model.kld_warmup "
                "linear and --model.kld_warmup_images."
            )

    def warn_of_another_total(self, previous_total_images: int) -> None:
        """Says so when a resumed run's schedule is stretched or cut."""
        if self._config.optim.schedule == "cosine" and previous_total_images != self._total_images:
            self.say(
                f"warning: the cosine schedule was planned for {previous_total_images:,} images and now ends at "
                f"{self._total_images:,}, so the learning rate jumps."
            )
