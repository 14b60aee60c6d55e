"""The training loop, for every family, on any number of processes; read it from ``fit`` down.

All counters are in images. The whole state of order, schedules, noise and augmentation is ``images_seen``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from accelerate import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from facegen.families.base import TrainBatch, TurnLosses
from facegen.options import TrainConfig
from facegen.processes.failures import DISK_ERRORS, TrainingDiverged
from facegen.processes.group import Agreement, limit_waiting, make_accelerator, sum_over_processes, wrap
from facegen.processes.preemption import EXIT_PREEMPTED, StopFlag
from facegen.randomness import derive_seed, seed_global_generators
from facegen.runs import checkpoint
from facegen.runs.run_directory import claim, save_config
from facegen.runs.state_file import read_facts
from facegen.training.assembly import build_family, make_loader
from facegen.training.averages import means_of
from facegen.training.batches import micro_batches
from facegen.training.early_stop import EarlyStop
from facegen.training.ema import EMA
from facegen.training.optim import Updater
from facegen.training.performance import keep_freed_memory, set_float32_precision, training_networks
from facegen.training.profiling import PROFILES, StepProfiler, span
from facegen.training.reporter import Reporter
from facegen.training.saver import Saver
from facegen.training.state import TrainState
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch

OnStep = Callable[["Trainer", Batch, dict[str, Tensor]], None]
OnSaved = Callable[["Trainer", dict[str, float]], None]


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
        # First, so that a process that finds something wrong leaves the others, and does not let them wait for it.
        self.accelerator = make_accelerator(handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)])
        keep_freed_memory()
        set_float32_precision(config.performance, self.accelerator.device)
        self.dataset = Dataset(config.data)
        family = build_family(config, self.dataset)
        self.family = family.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.family.prepare(self.dataset, self.accelerator.device)
        self.loader = make_loader(config, self.dataset, self.family, self.accelerator)
        self.total_images = config.total_images(self.loader.epoch_size)
        use_fp16 = self.accelerator.mixed_precision == "fp16"
        self.reporter = Reporter(config, self.dataset, self.accelerator, self.loader.epoch_size, self.total_images)
        self.state = TrainState(
            self.family,
            EMA(self.family, config.ema.half_life_images) if config.ema.half_life_images else None,
            {
                name: Updater(network, config.optim, self.accelerator.device, use_fp16)
                for name, network in self.family.networks.items()
            },
            EarlyStop(config.early_stop, self.reporter.held_out_metrics(self.family)),
        )
        self.run = None if config.dry_run else Path(config.run)
        self._lock, found = (
            claim(config, self.dataset.fingerprint, self.accelerator, family.file_options) if self.run else (None, None)
        )
        self._saver = Saver(self.run, config, self.dataset, self.accelerator, self.loader.epoch_size, self.total_images)
        if found:
            self.state.read(found)
            self._saver.mark_saved(self.state)
            self.reporter.warn_of_another_total(read_facts(found)["total_images"])
        self._held_out: tuple[int, dict[str, float]] = (0, {})
        self._on_saved: OnSaved | None = None
        self._has_dropout = any(isinstance(module, _DropoutNd) for module in self.family.modules())
        self._networks = training_networks(self.family, config.performance, self.accelerator)
        self._wrapped = {name: wrap(network, self.accelerator) for name, network in self._networks.items()}
        self.loader.samples_seen = self.images_seen

    @property
    def images_seen(self) -> int:
        """Images before the next step, over all processes."""
        return self.state.images_seen

    @property
    def is_over(self) -> bool:
        """Whether there is no further step to take."""
        return self.images_seen >= self.total_images or self.state.early_stop.is_over

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.images_seen // self.config.global_batch_size

    def fit(self, on_step: OnStep | None = None, on_saved: OnSaved | None = None) -> int:
        """Trains to the end.

        Args:
            on_step: Called after every step with the trainer, this process's batch, and its loss terms.
            on_saved: Called on every process after every checkpoint, with the held-out metrics of the same moment;
                they are empty where none were measured then.

        Returns:
            The process's exit code: 0, or 143 when a signal stopped the run behind a complete checkpoint.

        Raises:
            TrainingDiverged: A loss or gradient that is not finite.
            SavingFailed: A full disk, for example.
            UserError: A damaged shard, or a run directory that cannot be written to; only on the process that met it.
        """
        self._on_saved = on_saved
        try:
            if self.run and self.accelerator.is_main_process:
                save_config(self.config)
            # Closed however training ends: the last events of a run that diverged are those that explain it. And until
            # then a launcher's signal, which comes as soon as one process has ended, must not end this one.
            with (
                closing(StopFlag()) as stop,
                closing(self.reporter),
                closing(self._step_profiler()) as profiler,
                self._lock or nullcontext(),
            ):
                self.reporter.open(self.run, self.state)
                return self._train(stop, profiler, iter(self.loader), on_step)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(
                f"cannot write to {self.run} ({error.strerror}); the checkpoints in it are intact. Fix this, then "
                "rerun the command."
            ) from error

    def _train(self, stop: StopFlag, profiler: StepProfiler, batches: Iterator[Batch], on_step: OnStep | None) -> int:
        """The loop; returns the exit code."""
        config, state, reporter, device = self.config, self.state, self.reporter, self.accelerator.device
        exit_code = 0
        if state.early_stop.is_due(self.images_seen, config.monitor.validate_every_images) and self._validate(stop):
            self._saver.mark_changed()  # The checkpoint that is there does not know of it.
        first_step = self.step + 1
        while not self.is_over:
            started_sec = time.perf_counter()
            with span("data"):
                batch = stop.wait_for(batches)
            waited_sec = time.perf_counter() - started_sec
            going_on = stop.ask(device)
            with span("augmentation"):  # In the time of the others' answers.
                parts = micro_batches(batch, config, self.images_seen, device) if batch else []
            if stop.heed(going_on) or batch is None:
                exit_code = EXIT_PREEMPTED
                break
            terms = self._train_step(parts)
            reporter.step(terms, time.perf_counter() - started_sec, waited_sec)
            profiler.step()
            if self.step == first_step and self._on_saved is None:  # Which may keep the main process for hours.
                limit_waiting(config.process_timeout_sec)
            if on_step:
                on_step(self, batch, terms)
            if config.dry_run:
                break
            if self._due(config.monitor.log_every_images):
                self._check_logged(reporter.log(state))
            if self._crossed(self.loader.epoch_size):
                reporter.warn(state)
            if self._due(config.monitor.validate_every_images):
                self._validate(stop)
            if self._due(self.loader.epoch_size):
                reporter.measure_latents(state, stop)
            if self._due(config.monitor.grid_every_images):
                reporter.draw(state, stop)
            if self._due(config.checkpoint.every_images) and not self.is_over:
                self._save()
        self._save()
        if state.early_stop.is_over:
            reporter.say(state.early_stop.summary())
        reporter.say(
            "dry run: one step trained, nothing kept" if config.dry_run else f"stopped at {self.images_seen:,} images"
        )
        return exit_code

    def _step_profiler(self) -> StepProfiler:
        """Traces steps of this process where that is asked for."""
        directory = self.run / PROFILES if self.run and self.config.profile else None
        name = f"{checkpoint.directory_name(self.images_seen)}_rank_{self.accelerator.process_index}"
        return StepProfiler(directory, name, self.reporter.say)

    def _validate(self, stop: StopFlag) -> bool:
        """Evaluates on held-out images, and keeps a snapshot of the best state so far where early stopping is on.

        Returns:
            Whether it came to that; not when asked to stop, on no process.
        """
        values = self.reporter.validate(self.state, stop)
        self._held_out = (self.images_seen, values)
        if self.state.early_stop.observe(values, self.images_seen):
            self._saver.save_best(self.state)
        return bool(values)

    def _train_step(self, parts: list[TrainBatch]) -> dict[str, Tensor]:
        """One optimizer step of every network, on one global batch; returns its loss terms."""
        if self._has_dropout:  # Which draws from the global generator; so it needs no state in the checkpoint.
            layers_seed = derive_seed(self.config.seed, self.images_seen, "layers", self.accelerator.process_index)
            seed_global_generators(layers_seed, self.accelerator.device)
        if not self.family.training:  # After an evaluation; to tell every module in every step takes its time.
            self.family.train()
        lr = self.config.optim.lr_at(self.images_seen, self.total_images)
        terms: dict[str, Tensor] = {}
        for turn in self.family.turns:
            turn_terms = self._take_turn(turn, parts, lr)
            assert not terms.keys() & turn_terms.keys(), "turns must name their terms apart"
            terms |= turn_terms
        if self.family.observes:
            self.family.observe(self._over_processes({name: terms[name] for name in self.family.observes}))
        self.state.images_seen += self.config.global_batch_size
        if self.state.ema:
            with span("moving average"):
                self.state.ema.update(self.images_seen, self.config.global_batch_size)
        return terms

    def _take_turn(self, turn: str, parts: list[TrainBatch], lr: float) -> dict[str, Tensor]:
        """Updates one network; returns its loss terms, means over the parts."""
        updater = self.state.updaters[turn]
        # Only the network whose turn it is learns and is synchronized; through the others gradients just pass.
        networks = {**self._networks, turn: self._wrapped[turn]}
        for name, other in self.state.updaters.items():
            other.require_gradients(name == turn)
        terms_of_parts: list[dict[str, Tensor]] = []
        for part in parts[:-1]:
            with self.accelerator.no_sync(networks[turn]):
                losses = self._forward(turn, networks, part)
                self._backward(turn, losses.loss, len(parts))
            terms_of_parts.append(losses.terms)
        # Gradients are averaged over processes once a step, in the last backward pass.
        losses = self._forward(turn, networks, parts[-1])
        terms = means_of([*terms_of_parts, losses.terms])
        self._backward(turn, losses.loss, len(parts))
        with span(f"{turn}: update"):
            grad_norm = updater.clip()
            self._check_finite(turn, terms, grad_norm)
            updater.step(lr, losses.update)
        return terms | {f"grad_norm_{turn}": grad_norm}

    def _forward(self, turn: str, networks: dict[str, nn.Module], part: TrainBatch) -> TurnLosses:
        with span(f"{turn}: forward"):
            return self.family.losses(turn, networks, part)

    def _backward(self, turn: str, loss: Tensor, num_parts: int) -> None:
        with span(f"{turn}: backward"):
            self.state.updaters[turn].backward(loss / num_parts if num_parts > 1 else loss)

    def _over_processes(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Means of this step's terms over all processes."""
        means = sum_over_processes(torch.stack([*terms.values()]), self.accelerator) / self.accelerator.num_processes
        return dict(zip(terms, means.tolist(), strict=True))

    def _check_finite(self, turn: str, terms: dict[str, Tensor], grad_norm: Tensor) -> None:
        """Stops before the optimizer uses a bad gradient.

        What is not finite in a loss is not finite in its gradient, which has been averaged and is the same on every
        process. But with fp16 it often overflows, and the loss scaler skips it: there losses are looked at themselves.
        """
        is_scaled = self.state.updaters[turn].scaler.is_enabled()
        if not is_scaled and math.isfinite(grad_norm):
            return
        # A sum is finite where all its values are, short of an overflow.
        sums = torch.stack([value.sum() for value in terms.values()])
        finite = Agreement(sums.isfinite().tolist(), self.accelerator.device).read()
        bad = [name for name, is_finite in zip(terms, finite, strict=True) if not is_finite]
        bad += [] if is_scaled else ["gradient"]
        if bad:
            raise TrainingDiverged(
                f"training stopped before step {self.step + 1} ({self.images_seen:,} images): {', '.join(bad)} of the "
                f"{turn} is not finite. Nothing was updated with it and the last checkpoint is good; try a lower "
                "--optim.lr or --optim.max_grad_norm."
            )

    def _check_logged(self, bad: list[str]) -> None:
        """Stops where a term is not finite though every gradient was; with fp16 a gradient may be, and is skipped."""
        bad = [name for name in bad if not name.startswith("grad_norm_")]
        if bad:
            raise TrainingDiverged(
                f"training stopped after step {self.step} ({self.images_seen:,} images): {', '.join(bad)} is not "
                "finite. Gradients were, and the last checkpoint is good; look at the data and at that term."
            )

    def _crossed(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``."""
        before = self.images_seen - self.config.global_batch_size
        return self.images_seen // every_images > before // every_images

    def _due(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``, or was the last."""
        return self._crossed(every_images) or self.is_over

    def _save(self) -> None:
        """Writes a checkpoint and a snapshot where there is something new."""
        if self._saver.save(self.state) and self._on_saved:
            measured_at, values = self._held_out
            self._on_saved(self, values if measured_at == self.images_seen else {})
