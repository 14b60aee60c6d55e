"""Writes a run's checkpoints, its snapshots, and the best state so far."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from facegen import __version__
from facegen.optimization.state import TrainState
from facegen.option_values import to_dict
from facegen.options import TrainConfig
from facegen.processes.failures import SavingFailed
from facegen.runs import checkpoint
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import Description, save_best, save_snapshot
from facegen.runs.state_file import Facts
from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader
from shards.packing.framing import Framing


class Saver:
    """Writes on the main process, while the others wait."""

    def __init__(
        self,
        run: Path | None,
        config: TrainConfig,
        dataset: Dataset,
        accelerator: Accelerator,
        loader: TrainLoader,
        total_images: int,
    ) -> None:
        """Takes the run directory and what stays the same over a run; None writes no files."""
        self._run = run
        self._config = config
        self._dataset = dataset
        self._accelerator = accelerator
        self._epoch_size = loader.epoch_size
        self._facts = Facts(
            0, total_images, dataset.fingerprint, to_dict(config), canonical_nodes=loader.canonical_nodes
        )
        self._saved_at: int | None = None

    def mark_saved(self, state: TrainState) -> None:
        """Notes that the newest checkpoint holds ``state``."""
        self._saved_at = state.images_seen

    def mark_changed(self) -> None:
        """Notes that the newest checkpoint is out of date, although it has seen as many images."""
        self._saved_at = None

    def save(self, state: TrainState) -> bool:
        """Writes a checkpoint and a snapshot, then deletes old ones beyond ``checkpoint.keep``.

        Every process must call it at the same step.

        Returns:
            Whether there was anything to write.

        Raises:
            SavingFailed: On every process, if the main one could not write.
        """
        if self._run is None or state.images_seen == self._saved_at:
            return False
        state.prepare_inference()
        problem = None
        if self._accelerator.is_main_process:
            try:
                self._write(self._run, state)
            except OSError as error:
                problem = (
                    f"the checkpoint at {state.images_seen:,} images cannot be written to {self._run} "
                    f"({error.strerror}); earlier ones are intact. Fix this, then rerun the command."
                )
        # Until the main process has written, the others wait here.
        (problem,) = broadcast_object_list([problem])
        if problem:
            raise SavingFailed(problem)
        self.mark_saved(state)
        return True

    def save_best(self, state: TrainState) -> None:
        """Replaces the best snapshot by one of this moment."""
        if self._run and self._accelerator.is_main_process:
            save_best(self._run, self._description(state), state.inference_modules)

    def _write(self, run: Path, state: TrainState) -> None:
        keep, directory = self._config.checkpoint.keep, run / CHECKPOINTS
        # The snapshot first: a run killed between the two resumes from an older checkpoint and writes both again.
        save_snapshot(run, self._description(state), state.inference_modules, keep)
        newest = directory / checkpoint.directory_name(state.images_seen)
        checkpoint.write_complete(newest, lambda temporary: state.write(temporary, self._facts))
        checkpoint.prune(directory, keep)

    def _description(self, state: TrainState) -> Description:
        """The description of a snapshot of this moment."""
        return describe(self._config, self._dataset, state.images_seen, state.images_seen / self._epoch_size)


def describe(config: TrainConfig, dataset: Dataset, images_seen: int, epoch: float) -> Description:
    """The description of a run at this moment."""
    image = dataset.image
    return Description(
        name=Path(config.run).resolve().name,
        family=config.family,
        config=to_dict(config),
        image_shape=[image.channels, image.height, image.width],
        label_fields={name: asdict(label) for name, label in dataset.fields.items()},
        dataset_name=dataset.manifest.name,
        dataset_fingerprint=dataset.fingerprint,
        images_seen=images_seen,
        step=images_seen // config.global_batch_size,
        epoch=epoch,
        versions={"facegen": __version__, "torch": version("torch")},
        framing=Framing.of(dataset.manifest),
    )
