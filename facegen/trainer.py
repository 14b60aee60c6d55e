"""The training loop, for every family, on any number of processes; read it from ``fit`` down.

All counters are in images. The whole state of order, schedules, noise and augmentation is ``images_seen``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from facegen import checkpoint, run_directory
from facegen.augment import augment
from facegen.averages import Averages
from facegen.config import TrainConfig, to_dict
from facegen.ema import EMA
from facegen.families import Family, build
from facegen.families.base import TrainBatch
from facegen.monitor import Meter, Monitor, progress_line
from facegen.networks.conv import ImageShape
from facegen.optim import Updater, lr_at
from facegen.pictures import reconstruction_grid, sample_grid
from facegen.pixels import to_float
from facegen.preemption import EXIT_PREEMPTED, StopFlag
from facegen.randomness import SlotRandom, derive_seed
from facegen.snapshot import describe, save_snapshot
from facegen.state import TrainState
from facegen.validation import validate
from shards.cli import UserError
from shards.dataset import Dataset
from shards.loader import Batch, TrainLoader, evaluation_batches

COLLAPSE_NATS_PER_DIM = 0.05
NUM_GRID_IMAGES = 32

OnStep = Callable[["Trainer", Batch, dict[str, Tensor]], None]


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite; nothing was updated with it."""


class Trainer:
    """One training run.

    Attributes:
        family: The networks, not wrapped.
        state: What checkpoints hold.
        accelerator: Processes, device and precision, as ``accelerate launch`` set them.

    """

    def __init__(self, config: TrainConfig) -> None:
        """Checks everything, builds everything, and restores the newest complete checkpoint of the run.

        Raises:
            UserError: Options, data or an earlier run that do not go together.

        """
        self.config = config
        self.dataset = Dataset(config.data)
        self.accelerator = _make_accelerator()
        self.is_main = self.accelerator.is_main_process
        self.loader = _make_loader(config, self.dataset, self.accelerator)
        self.total_images = config.total_images(self.loader.epoch_size)
        self.run = None if config.dry_run else Path(config.run)
        self._lock = run_directory.lock(self.run) if self.run and self.is_main else None
        # The process that is waited for may still be writing the checkpoint that all of these are to find.
        self.accelerator.wait_for_everyone()
        found = run_directory.find_checkpoint(config, self.dataset.fingerprint) if self.run else None

        image = self.dataset.image
        torch.manual_seed(derive_seed(config.seed, "weights"))
        try:
            self.family = build(config.family, config.model, ImageShape(image.channels, image.height, image.width))
        except ValueError as error:
            raise UserError(str(error)) from None
        device = self.accelerator.device
        self.family.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        use_fp16 = self.accelerator.mixed_precision == "fp16"
        self.state = TrainState(
            self.family,
            EMA(self.family, config.ema.half_life_images) if config.ema.half_life_images else None,
            {name: Updater(network, config.optim, device, use_fp16) for name, network in self.family.networks.items()},
        )
        self._saved_at: int | None = None
        if found:
            self.state.read(found)
            self._saved_at = self.images_seen
        self._wrapped: dict[str, nn.Module] = {
            name: self.accelerator.prepare_model(network) for name, network in self.family.networks.items()
        }
        self.loader.samples_seen = self.images_seen
        self._window, self._epoch = Averages(), Averages()
        self._meter = Meter()
        self._held_out = next((split for split in ("val", "test") if self.dataset.num_samples(split)), None)

    @property
    def images_seen(self) -> int:
        """Images before the next step, over all processes."""
        return self.state.images_seen

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.images_seen // self.config.global_batch_size

    @property
    def epoch(self) -> float:
        """Epochs so far."""
        return self.images_seen / self.loader.epoch_size

    @property
    def inference_family(self) -> Family:
        """The networks that inference will use: the moving average where there is one."""
        return self.state.ema.module if self.state.ema else self.family

    def fit(self, on_step: OnStep | None = None) -> int:
        """Trains to the end.

        Args:
            on_step: Called after every step with the trainer, this process's batch, and its loss terms.

        Returns:
            The process's exit code: 0, or 143 when a signal stopped the run behind a complete checkpoint.

        Raises:
            TrainingDiverged: A loss or gradient that is not finite.

        """
        config = self.config
        self._announce()
        if self.run and self.is_main:
            run_directory.save_config(config)
        self.monitor = Monitor(self.run if self.is_main else None, self.images_seen)
        # Closed however training ends: the last events of a run that diverged are those that explain it.
        with closing(self.monitor), closing(StopFlag()) as stop, closing(iter(self.loader)) as batches:
            exit_code = self._train(stop, batches, on_step)
        self._say(
            "dry run: one step trained, nothing kept" if config.dry_run else f"stopped at {self.images_seen:,} images"
        )
        return exit_code

    def _train(self, stop: StopFlag, batches: Iterator[Batch], on_step: OnStep | None) -> int:
        """The loop; returns the exit code."""
        config = self.config
        exit_code = 0
        while self.images_seen < self.total_images:
            if stop.agree(self.accelerator.device):
                exit_code = EXIT_PREEMPTED
                break
            batch, terms = self._train_step(batches)
            if on_step:
                on_step(self, batch, terms)
            if config.dry_run:
                break
            if self._due(config.monitor.log_every_images):
                self._log()
            if self._crossed(self.loader.epoch_size):
                self._warn_of_collapse()
            if self._due(config.monitor.validate_every_images):
                self._validate()
            if self._due(config.monitor.grid_every_images):
                self._draw()
            if self._due(config.checkpoint.every_images) and self.images_seen < self.total_images:
                self._save()
        if self.run:
            self._save()
        return exit_code

    def _train_step(self, batches: Iterator[Batch]) -> tuple[Batch, dict[str, Tensor]]:
        """One optimizer step of every network, on one global batch."""
        started_sec = time.perf_counter()
        batch = next(batches)
        waited_sec = time.perf_counter() - started_sec
        # Dropout draws from the global generator; seeded like this it needs no state in the checkpoint.
        torch.manual_seed(derive_seed(self.config.seed, self.images_seen, "layers", self.accelerator.process_index))
        self.family.train()
        micro_batches = self._micro_batches(batch)
        lr = lr_at(self.config.optim, self.images_seen, self.total_images)
        terms: dict[str, Tensor] = {}
        for turn in self.family.turns:
            terms |= self._take_turn(turn, micro_batches, lr)
        if self.state.ema:
            self.state.ema.update(self.family, self.config.global_batch_size)
        self.state.images_seen += self.config.global_batch_size
        self._window.add(terms)
        self._epoch.add({name: value for name, value in terms.items() if name == "kl_per_dim"})
        self._meter.step(self.config.global_batch_size, time.perf_counter() - started_sec, waited_sec)
        return batch, terms

    def _take_turn(self, turn: str, micro_batches: list[TrainBatch], lr: float) -> dict[str, Tensor]:
        """Updates one network; returns its loss terms, means over the micro-batches."""
        updater = self.state.updaters[turn]
        # Only the network whose turn it is learns and is synchronized; through the others gradients just pass.
        networks = {**self.family.networks, turn: self._wrapped[turn]}
        for name, network in self.family.networks.items():
            network.requires_grad_(name == turn)
        terms = Averages()
        for batch in micro_batches:
            is_last = batch is micro_batches[-1]
            # Gradients are averaged over processes once a step, in the last backward pass.
            with nullcontext() if is_last else self.accelerator.no_sync(networks[turn]):
                losses = self.family.losses(turn, networks, batch)
                updater.backward(losses.loss / len(micro_batches))
            terms.add(losses.scalars | ({} if losses.kl_per_dim is None else {"kl_per_dim": losses.kl_per_dim}))
        means, grad_norm = terms.local(), updater.clip()
        self._check_finite(turn, means, grad_norm)
        updater.step(lr)
        return means | {f"grad_norm_{turn}": grad_norm}

    def _check_finite(self, turn: str, terms: dict[str, Tensor], grad_norm: Tensor) -> None:
        """Stops before the optimizer uses a bad gradient; with fp16 the loss scaler skips overflowed gradients."""
        named = dict(terms) if self.state.updaters[turn].scaler.is_enabled() else {**terms, "gradient": grad_norm}
        is_finite = torch.stack([value.isfinite().all() for value in named.values()]).tolist()
        if not all(is_finite):
            bad = ", ".join(name for name, finite in zip(named, is_finite, strict=True) if not finite)
            raise TrainingDiverged(
                f"training stopped before step {self.step + 1} ({self.images_seen:,} images): {bad} of the {turn} is "
                "not finite. Nothing was updated with it and the last checkpoint is good; try a lower --optim.lr or "
                "--optim.max_grad_norm."
            )

    def _micro_batches(self, batch: Batch) -> list[TrainBatch]:
        """This process's share of a global batch, cut for gradient accumulation, on the device and augmented."""
        config, device = self.config, self.accelerator.device
        size = len(batch.images) // config.gradient_accumulation_steps
        parts = []
        for start in range(0, len(batch.images), size):
            slots = slice(batch.first_slot + start, batch.first_slot + start + size)
            random = SlotRandom(config.seed, self.images_seen, slots, config.global_batch_size, device)
            images = to_float(batch.images[start : start + size].to(device, non_blocking=True))
            labels = {
                name: label[start : start + size].to(device, non_blocking=True) for name, label in batch.labels.items()
            }
            parts.append(TrainBatch(augment(images, config.augment, random), labels, random, self.images_seen))
        return parts

    def _crossed(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``."""
        before = self.images_seen - self.config.global_batch_size
        return self.images_seen // every_images > before // every_images

    def _due(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``, or was the last."""
        return self._crossed(every_images) or self.images_seen >= self.total_images

    def _log(self) -> None:
        terms = self._window.read(self.accelerator)
        if not self.is_main:
            return
        values = {f"train/{name}": value.item() for name, value in terms.items() if value.ndim == 0}
        values["train/lr"] = lr_at(self.config.optim, self.images_seen, self.total_images)
        if "kl_per_dim" in terms:
            self.monitor.histogram("train/kl_per_dim", terms["kl_per_dim"], self.images_seen)
            values["train/active_dims"] = (terms["kl_per_dim"] > COLLAPSE_NATS_PER_DIM).sum().item()
        speed = self._meter.report()
        self.monitor.scalars(
            values | {f"speed/{name}": value for name, value in speed.items()}, self.images_seen, self.step
        )
        self._say(progress_line(self.images_seen, self.total_images, self.epoch, values | speed))

    def _warn_of_collapse(self) -> None:
        kl_per_dim = self._epoch.read(self.accelerator).get("kl_per_dim")
        if kl_per_dim is not None and kl_per_dim.mean() < COLLAPSE_NATS_PER_DIM:
            self._say(
                f"warning: posterior collapse: mean KL over the last epoch is {kl_per_dim.mean():.4f} nats per dim "
                f"(below {COLLAPSE_NATS_PER_DIM}); lower --model.kld_weight, or set --model.kld_warmup linear."
            )

    def _validate(self) -> None:
        if self._held_out is None:
            return
        family = self.inference_family.eval()
        batch_size = self.config.global_batch_size // self.accelerator.num_processes
        values, latents = validate(
            family,
            self.dataset,
            self._held_out,
            self.config.monitor.num_validation_images,
            batch_size,
            self.accelerator,
        )
        if values and self.is_main:
            self.monitor.scalars({f"val/{name}": value for name, value in values.items()}, self.images_seen, self.step)
            self._say("held out: " + " | ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if latents is not None:
            self.monitor.histogram("latents/mu", latents, self.images_seen)
            self.monitor.histogram("latents/variance_of_mu", latents.var(0, correction=0), self.images_seen)

    def _draw(self) -> None:
        if not self.is_main:
            return
        family = self.inference_family.eval()
        if {"encode", "decode"} <= family.can:
            split = self._held_out or "train"
            batch = next(evaluation_batches(self.dataset, split, NUM_GRID_IMAGES, limit=NUM_GRID_IMAGES))
            picture = reconstruction_grid(family, batch.images, batch.labels)
            self.monitor.picture("reconstructions", picture, self.images_seen)
        if "sample" in family.can:
            self.monitor.picture("samples", sample_grid(family, NUM_GRID_IMAGES, self.config.seed), self.images_seen)

    def _save(self) -> None:
        """Writes a checkpoint and a snapshot, and then deletes the ones beyond ``keep``."""
        if self.images_seen == self._saved_at:
            return
        if self.is_main and self.run:
            keep, directory = self.config.checkpoint.keep, self.run / run_directory.CHECKPOINTS
            # The snapshot first: killed between the two, a run comes back to an older checkpoint and writes both anew.
            modules = ({"ema": self.state.ema.module} if self.state.ema else {}) | {"raw": self.family}
            save_snapshot(self.run, describe(self.config, self.dataset, self.images_seen, self.epoch), modules, keep)
            facts = {"dataset_fingerprint": self.dataset.fingerprint, "config": to_dict(self.config)}
            newest = directory / checkpoint.directory_name(self.images_seen)
            checkpoint.write_complete(newest, lambda temporary: self.state.write(temporary, facts))
            checkpoint.prune(directory, keep)
        self._saved_at = self.images_seen
        self.accelerator.wait_for_everyone()

    def _announce(self) -> None:
        num_parameters = sum(parameter.numel() for parameter in self.family.parameters())
        accelerator = self.accelerator
        self._say(
            f"{self.config.family}: {num_parameters:,} parameters on {self.loader.epoch_size:,} images an epoch of "
            f"{self.config.data} ({self.dataset.fingerprint}), {accelerator.num_processes} process(es) on "
            f"{accelerator.device.type}, precision {accelerator.mixed_precision}"
        )
        if self.family.decoder_variance is not None:
            self._say(f"beta_eff {self.family.decoder_variance:.4g} (1/2 SSE + beta_eff * KL, pixels in [-1, 1])")
        if self.images_seen >= self.total_images:
            self._say(
                f"nothing to do: {self.config.run} has seen {self.images_seen:,} of {self.total_images:,} images; raise "
                "--max_images, --max_steps or --max_epochs to train on."
            )
            return
        start = "resumes at" if self.images_seen else "trains from"
        self._say(f"{start} {self.images_seen:,} to {self.total_images:,} images")

    def _say(self, text: str) -> None:
        if self.is_main:
            print(text, flush=True)


def _make_accelerator() -> Accelerator:
    try:
        return Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)])
    except ValueError as error:
        raise UserError(f"accelerate refuses its settings: {error}") from None


def _make_loader(config: TrainConfig, dataset: Dataset, accelerator: Accelerator) -> TrainLoader:
    loader = TrainLoader(
        dataset,
        "train",
        global_batch_size=config.global_batch_size,
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_threads=config.loader.num_threads,
        prefetch_batches=config.loader.prefetch_batches,
        pin_memory=accelerator.device.type == "cuda",
    )
    unit = accelerator.num_processes * config.gradient_accumulation_steps
    if config.global_batch_size % unit:
        nearest = max(unit, round(config.global_batch_size / unit) * unit)
        raise UserError(
            f"global_batch_size {config.global_batch_size} cannot be shared equally by {accelerator.num_processes} "
            f"processes x {config.gradient_accumulation_steps} gradient_accumulation_steps; use {nearest}."
        )
    return loader
