"""Every training option, as nested dataclasses; read from presets, YAML files and the command line."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facegen.families import FAMILIES
from facegen.training.augment import AugmentConfig
from facegen.training.early_stop import EarlyStopConfig
from facegen.training.optim import OptimConfig
from facegen.training.performance import PerformanceConfig
from shards.base.cli import Parser, parse_command
from shards.base.errors import UserError

DEFAULT_EPOCHS = 30
PRESETS = Path(__file__).resolve().parent / "presets"


@dataclass
class LoaderConfig:
    """How shards are read; none of it changes which image is used when."""

    num_threads: int = 2
    """Threads that read and decode; 0 decodes in the training thread."""
    prefetch_batches: int = 4
    """Batches kept ready; small ones are read several at a time, and more of them."""
    decoded_gb: float = 1.0
    """Memory (GB) in which each process keeps the images that it has decoded, for later epochs; 0 keeps none."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not 0 <= self.decoded_gb < math.inf:
            raise ValueError(f"loader.decoded_gb must be 0 or more, not {self.decoded_gb}.")


@dataclass
class EMAConfig:
    """Exponential moving average of the weights, kept beside them and used for inference."""

    half_life_images: int = 0
    """Images after which a weight's share has halved; 0 keeps no average."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.half_life_images < 0:
            raise ValueError(f"ema.half_life_images must not be negative, not {self.half_life_images}.")


@dataclass
class MonitorConfig:
    """What is written while training, all counted in images."""

    log_every_images: int = 2_000
    """Scalars and the progress line."""
    grid_every_images: int = 20_000
    """Reconstruction and sample grids, as PNG and in TensorBoard."""
    validate_every_images: int = 20_000
    """Held-out metrics and latent histograms."""
    num_validation_images: int = 2_000
    """Held-out images that are used at most."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for item in dataclasses.fields(self):
            if getattr(self, item.name) < 1:
                raise ValueError(f"monitor.{item.name} must be at least 1, not {getattr(self, item.name)}.")


@dataclass
class CheckpointConfig:
    """When the state is saved, and how much of it is kept."""

    every_images: int = 50_000
    """Images between two checkpoints; one is always saved at the end."""
    keep: int = 2
    """Checkpoints, and snapshots, that are kept; at least 2."""

    def __post_init__(self) -> None:
        """Rejects impossible values, and those under which a checkpoint could be lost."""
        if self.every_images < 1:
            raise ValueError(f"checkpoint.every_images must be at least 1, not {self.every_images}.")
        if self.keep < 2:
            raise ValueError(f"checkpoint.keep must be at least 2, not {self.keep}: the last one may be damaged.")


@dataclass(kw_only=True)
class TrainConfig:
    """Options of a training run; ``config_class`` adds ``family`` and the family's own ``model`` options."""

    data: str
    """Data set directory, as shards.pack made it."""
    run: str
    """Run directory: configuration, metrics, checkpoints. The same command resumes from its newest checkpoint."""
    seed: int = 0
    """Seed of initial weights, order, noise and augmentation."""
    global_batch_size: int = 128
    """Images in one optimizer step, over all processes and accumulation steps."""
    gradient_accumulation_steps: int = 1
    """Forward and backward passes that share one optimizer step."""
    max_images: int | None = None
    """Stop after this many images; the first of the three limits counts. 30 epochs when none is given."""
    max_steps: int | None = None
    """Stop after this many optimizer steps."""
    max_epochs: float | None = None
    """Stop after this many epochs."""
    process_timeout_sec: float = 300.0
    """After the first step, a process that has waited this long for another one ends the run; torch's own limit holds
    before, and in sweeps."""
    dry_run: bool = False
    """Build everything, train one step, keep no files."""
    profile: bool = False
    """Trace a few steps, after the first ones, with torch's profiler, into the run's folder profile."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    ema: EMAConfig = field(default_factory=EMAConfig)
    """Moving average of the weights."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation on the device."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """Reading."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """Logging and pictures."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Saving."""
    early_stop: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    """Stopping before the limits."""
    performance: PerformanceConfig = field(default_factory=PerformanceConfig)
    """Speed."""

    if TYPE_CHECKING:
        family: str
        model: Any

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not self.run.strip() or not self.data.strip():
            raise ValueError("data and run must not be empty.")
        if self.profile and self.dry_run:
            raise ValueError("profile needs more steps than the one of dry_run; leave one of them out.")
        for name in ("global_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("max_images", "max_steps", "max_epochs", "process_timeout_sec"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, not {value}.")

    def total_images(self, epoch_size: int) -> int:
        """Images at which training stops: the smallest limit, in whole global batches.

        Args:
            epoch_size: Images of one epoch, whole global batches.
        """
        limits = [
            self.max_images,
            self.max_steps and self.max_steps * self.global_batch_size,
            self.max_epochs and max(1, round(self.max_epochs * epoch_size)),
        ]
        total = min((limit for limit in limits if limit is not None), default=DEFAULT_EPOCHS * epoch_size)
        return -(-total // self.global_batch_size) * self.global_batch_size


@functools.cache
def config_class(family: str) -> type[TrainConfig]:
    """The options of one family's training: ``TrainConfig`` with the family's own options as ``model``."""
    model_class = FAMILIES[family].config_class
    return dataclasses.make_dataclass(
        "TrainConfig",
        [
            ("family", Literal[family], field(default=family)),  # type: ignore[valid-type]
            ("model", model_class, field(default_factory=model_class)),
        ],
        bases=(TrainConfig,),
        namespace={"__doc__": FAMILIES[family].family_class.__doc__},
        kw_only=True,
    )


def parse_args(args: Sequence[str]) -> TrainConfig:
    """Reads ``FAMILY --data DIR --run RUN [--config PRESET or FILE] [--any.option value]``; bad input exits with 2."""
    _, config = parse_command(
        {family: config_class(family) for family in FAMILIES},
        prog="accelerate launch facegen/train.py",
        description="Train one family of models on packed faces.",
        dest="family",
        args=resolve_presets(args),
    )
    return config


def resolve_presets(args: Sequence[str], directory: Path = PRESETS) -> list[str]:
    """Turns ``--config NAME`` of a shipped preset into its path.

    Raises:
        UserError: Neither a file nor a preset.
    """
    resolved = list(args)
    for position, arg in enumerate(resolved):
        name = arg.removeprefix("--config=") if arg.startswith("--config=") else None
        if name is None and position and resolved[position - 1] == "--config":
            name = arg
        if name is None or Path(name).is_file():
            continue
        preset = directory / f"{name}.yaml"
        if not preset.is_file():
            presets = sorted(path.stem for path in directory.glob("*.yaml"))
            nearest = difflib.get_close_matches(name, presets, n=3, cutoff=0.3) or presets
            raise UserError(f"--config {name} is neither a file nor a preset; near it: {', '.join(nearest)}.")
        resolved[position] = arg.replace(name, str(preset))
    return resolved


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain values, as YAML and JSON hold it."""
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_dict(value) if dataclasses.is_dataclass(value) else value


def model_config_from_dict(family: str, values: dict[str, Any]) -> Any:
    """A family's config dataclass from plain values, checked like a YAML file."""
    parser = Parser(exit_on_error=False)
    parser.add_class_arguments(FAMILIES[family].config_class, "model")
    return parser.instantiate(parser.parse_object({"model": values})).model


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Names, and both values, of the options that differ between two plain configs."""
    found = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} (was {before}, now {after})")
    return found
