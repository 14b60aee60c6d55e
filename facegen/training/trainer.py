"""The training loop, for every family, on any number of processes; read it from ``fit`` down.

All counters are in images. The whole state of order, schedules, noise and augmentation is ``images_seen``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

from accelerate import DistributedDataParallelKwargs
from torch import Tensor, channels_last
from torch.nn.modules.dropout import _DropoutNd

from facegen.families.base import TrainBatch
from facegen.optimization.averages import means_of, means_over_processes
from facegen.optimization.divergence import check_logged, check_update
from facegen.optimization.early_stop import EarlyStop
from facegen.options import TrainConfig
from facegen.processes.crowding import CoreWait
from facegen.processes.failures import DISK_ERRORS
from facegen.processes.group import limit_waiting, make_accelerator, wrap
from facegen.processes.preemption import EXIT_PREEMPTED, Preempted, StopFlag
from facegen.randomness import derive_seed, seed_global_generators
from facegen.reporting.reporter import Reporter
from facegen.reporting.trackers import require_trackers
from facegen.runs.checkpoint import directory_name
from facegen.runs.config_file import save_config
from facegen.runs.run_directory import claim
from facegen.runs.state_file import read_facts
from facegen.training.assembly import build_family, make_loader, make_state
from facegen.training.batches import micro_batches
from facegen.training.initialization import initialize
from facegen.training.performance import keep_freed_memory, set_float32_precision, training_networks
from facegen.training.profiling import PROFILES, StepProfiler, span
from facegen.training.saver import Saver
from shards.base.errors import UserError
from shards.dataset.mixture import open_dataset
from shards.loading.batch import Batch

_STEPS_WATCHED = 20
"""Steps after which a training says that other programs use its cores."""

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
        require_trackers(config.monitor.trackers)
        # First, so that a process that finds something wrong leaves the others instead of keeping them waiting.
        self.accelerator = make_accelerator(handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)])
        device = self.accelerator.device
        keep_freed_memory()
        set_float32_precision(config.performance, device)
        self.dataset = open_dataset(config.data)
        family = build_family(config, self.dataset)
        self.family = family.to(device, memory_format=channels_last)  # type: ignore[call-overload]
        self.family.prepare(self.dataset, device)
        self.loader = make_loader(config, self.dataset, self.family, self.accelerator)
        epoch_size = self.loader.epoch_size
        self.total_images = config.total_images(epoch_size)
        self._stop = StopFlag(device)
        self.reporter = Reporter(config, self.dataset, self.accelerator, self._stop, epoch_size, self.total_images)
        early_stop = EarlyStop(config.early_stop, self.reporter.held_out_metrics(self.family))
        self.state = make_state(config, self.dataset, self.family, early_stop, self.accelerator)
        self.run = None if config.dry_run else Path(config.run)
        self._lock, found = None, None
        if self.run:
            fingerprint, file_options = self.dataset.fingerprint, self.family.file_options
            self._lock, found = claim(config, fingerprint, self.accelerator, file_options)
        if found:
            facts = read_facts(found)
            self.loader.load_state_dict({"samples_seen": facts.images_seen, "canonical_nodes": facts.canonical_nodes})
            self.state.read(found)
            self.reporter.warn_of_another_total(facts.total_images)
        else:
            initialize(self.state, config, self.dataset, self.accelerator)
        self._saver = Saver(self.run, config, self.dataset, self.accelerator, self.loader, self.total_images)
        if found:
            self._saver.mark_saved(self.state)
        self._held_out: tuple[int, dict[str, float]] = (0, {})
        self._on_saved: OnSaved | None = None
        self._waited_sec = 0.0
        self._has_dropout = any(isinstance(module, _DropoutNd) for module in self.family.modules())
        self._networks = training_networks(self.family, config.performance, self.accelerator)
        self._wrapped = {name: wrap(network, self.accelerator) for name, network in self._networks.items()}

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
            # All is closed however training ends: the last events of a run that diverged explain why. Signals are
            # heeded until then: a launcher sends one as soon as one process has ended, and it must not end this one.
            with (
                self._stop,
                closing(self.reporter),
                closing(self._step_profiler()) as profiler,
                self._lock or nullcontext(),
            ):
                if self.run and self.accelerator.is_main_process:
                    save_config(self.config)
                self.reporter.open(self.run, self.state)
                self.reporter.warn_of_left_out(self.loader.num_left_out)
                return self._train(profiler, on_step)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(
                f"cannot write to {self.run} ({error.strerror}); the checkpoints in it are intact. Fix this, then "
                "rerun the command."
            ) from error

    def _train(self, profiler: StepProfiler, on_step: OnStep | None) -> int:
        """Trains to the end, or until a signal, and saves; returns the exit code."""
        exit_code = 0
        try:
            self._loop(profiler, on_step)
        except Preempted:
            exit_code = 0 if self.is_over else EXIT_PREEMPTED
        self._save()
        if self.state.early_stop.is_over:
            self.reporter.say(self.state.early_stop.summary())
        self.reporter.say(
            "dry run: one step trained, nothing kept"
            if self.config.dry_run
            else f"stopped at {self.images_seen:,} images"
        )
        return exit_code

    def _loop(self, profiler: StepProfiler, on_step: OnStep | None) -> None:
        """Takes one optimizer step after another; what is due after a step depends only on the images seen.

        Raises:
            Preempted: On every process, between two batches of training or of an evaluation.
        """
        config, state, reporter = self.config, self.state, self.reporter
        if state.early_stop.is_due(self.images_seen, config.monitor.validate_every_images):
            self._validate()
            self._saver.mark_changed()  # The newest checkpoint lacks this validation.
        first_step, core_wait = self.step + 1, CoreWait()
        batches = self._stop.watch(self._read(), self._cut)
        while not self.is_over:
            started_sec = time.perf_counter()
            batch, parts = next(batches)
            terms = self._train_step(parts)
            reporter.step(terms, time.perf_counter() - started_sec, self._waited_sec)
            profiler.step()
            if self.step == first_step and self._on_saved is None:  # on_saved may run for hours on rank 0.
                limit_waiting(config.process_timeout_sec)
            if self.step == first_step + _STEPS_WATCHED and (advice := core_wait.advice()):
                reporter.say(f"warning: {advice}")
            if on_step:
                on_step(self, batch, terms)
            if config.dry_run:
                break
            if self._due(config.monitor.log_every_images):
                check_logged(reporter.log(state), f"after step {self.step} ({self.images_seen:,} images)")
            if self._crossed(self.loader.epoch_size):
                reporter.warn(state)
            if self._due(config.monitor.validate_every_images):
                self._validate()
            elif self._is_first_look(config.monitor.validate_every_images):
                reporter.validate(state)  # Not seen by early stopping, which counts validations at equal distances.
            if self._due(self.loader.epoch_size):
                reporter.measure_latents(state)
            if self._due(config.monitor.grid_every_images) or self._is_first_look(config.monitor.grid_every_images):
                reporter.draw(state)
            if self._due(config.checkpoint.every_images) and not self.is_over:
                self._save()

    def _read(self) -> Iterator[Batch]:
        """This process's batches; notes how long it waited for the newest."""
        batches = iter(self.loader)
        while True:
            started_sec = time.perf_counter()
            with span("data"):
                batch = next(batches)
            self._waited_sec = time.perf_counter() - started_sec
            yield batch

    def _cut(self, batch: Batch) -> tuple[Batch, list[TrainBatch]]:
        """A batch and its micro-batches, augmented on the device."""
        with span("augmentation"):
            return batch, micro_batches(batch, self.config, self.images_seen, self.accelerator.device)

    def _train_step(self, parts: list[TrainBatch]) -> dict[str, Tensor]:
        """One optimizer step of every network, on one global batch; returns its loss terms."""
        if self._has_dropout:  # It draws from the global generator; seeded anew, it needs no state in the checkpoint.
            layers_seed = derive_seed(self.config.seed, self.images_seen, "layers", self.accelerator.process_index)
            seed_global_generators(layers_seed, self.accelerator.device)
        if not self.family.training:  # After an evaluation; walking all modules in every step takes time.
            self.family.train()
        terms: dict[str, Tensor] = {}
        for turn in self.family.turns:
            turn_terms = self._take_turn(turn, parts)
            assert not terms.keys() & turn_terms.keys(), "turns must name their terms apart"
            terms |= turn_terms
        if self.family.observes:
            observed = {name: terms[name] for name in self.family.observes}
            self.family.observe(means_over_processes(observed, self.accelerator))
        self.state.images_seen += self.config.global_batch_size
        if self.state.ema:
            with span("moving average"):
                self.state.ema.update(self.images_seen, self.config.global_batch_size)
        return terms

    def _take_turn(self, turn: str, parts: list[TrainBatch]) -> dict[str, Tensor]:
        """Updates one network; returns its loss terms, means over the parts."""
        updater = self.state.updaters[turn]
        # Only the network whose turn it is learns and is synchronized; through the others gradients just pass.
        networks = {**self._networks, turn: self._wrapped[turn]}
        for name, other in self.state.updaters.items():
            other.require_gradients(name == turn)
        terms_of_parts = []
        for number, part in enumerate(parts, start=1):
            # Gradients are averaged over processes once a step, in the last backward pass.
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(networks[turn]):
                with span(f"{turn}: forward"):
                    losses = self.family.losses(turn, networks, part)
                with span(f"{turn}: backward"):
                    updater.backward(losses.loss / len(parts) if len(parts) > 1 else losses.loss)
            terms_of_parts.append(losses.terms)
        terms = means_of(terms_of_parts)
        with span(f"{turn}: update"):
            grad_norm = updater.clip()
            moment = f"before step {self.step + 1} ({self.images_seen:,} images)"
            check_update(turn, terms, grad_norm, updater.scaler.is_enabled(), self.accelerator.device, moment)
            lr = self.config.optim.lr_at(self.images_seen, self.total_images, turn)
            updater.step(lr, losses.update)
        return terms | {f"grad_norm_{turn}": grad_norm}

    def _validate(self) -> None:
        """Evaluates on held-out images; with early stopping, keeps a snapshot of the best state so far."""
        values = self.reporter.validate(self.state)
        self._held_out = (self.images_seen, values)
        if self.state.early_stop.observe(values, self.images_seen):
            self._saver.save_best(self.state)

    def _crossed(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``."""
        before = self.images_seen - self.config.global_batch_size
        return self.images_seen // every_images > before // every_images

    def _due(self, every_images: int) -> bool:
        """Whether the step just taken crossed a multiple of ``every_images``, or was the last."""
        return self._crossed(every_images) or self.is_over

    def _is_first_look(self, every_images: int) -> bool:
        """Whether the step just taken ended the first tenth of ``every_images``; never where that is a single step."""
        first = every_images // 10
        return self.config.global_batch_size < first <= self.images_seen < first + self.config.global_batch_size

    def _save(self) -> None:
        """Writes a checkpoint and a snapshot where there is something new."""
        if self._saver.save(self.state) and self._on_saved:
            measured_at, values = self._held_out
            self._on_saved(self, values if measured_at == self.images_seen else {})

    def _step_profiler(self) -> StepProfiler:
        """Traces steps of this process with ``--profile``."""
        directory = self.run / PROFILES if self.run and self.config.profile else None
        name = f"{directory_name(self.images_seen)}_rank_{self.accelerator.process_index}"
        return StepProfiler(directory, name, self.reporter.say)
