"""The training options that every family shares, as dataclasses. Imports no torch, so that reading a config stays fast.

A family's own options stand beside the family; ``facegen.config`` joins the two.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from shards.base.errors import shown
from shards.base.plugins import plugin_names
from shards.base.records import MAX_COUNT

DEFAULT_EPOCHS = 30
TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "wandb", "mlflow", "aim", "trackio")
TRACKER_PLUGINS = "facegen.trackers"


@dataclass
class OptimConfig:
    """Optimizer of every network."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW with decoupled weight decay."""
    lr: float = 1e-3
    """Learning rate after warm-up."""
    lr_of: dict[str, float] = field(default_factory=dict)
    """Learning rates of networks that have another one, by name: --optim.lr_of.discriminator 0.0004."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moment averages."""
    weight_decay: float = 0.0
    """Weight decay."""
    warmup_images: int = 5_000
    """Images over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """``cosine`` falls to final_lr_fraction at the end of training, ``step`` by step_factor every step_images."""
    step_images: int = 1_000_000
    """Images between two steps of the schedule step."""
    step_factor: float = 0.9
    """Factor on the learning rate at each of these steps."""
    final_lr_fraction: float = 0.01
    """Where the cosine ends, as a fraction of lr."""
    max_grad_norm: float | None = None
    """Clip the gradient's global L2 norm to this."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name, lr in {"lr": self.lr, **{f"lr_of.{network}": lr for network, lr in self.lr_of.items()}}.items():
            if not 0 < lr < math.inf:
                raise ValueError(f"optim.{name} must be a positive number, not {lr}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must be in [0, 1), not {list(self.betas)}.")
        for name in ("weight_decay", "warmup_images", "final_lr_fraction"):
            if getattr(self, name) < 0:
                raise ValueError(f"optim.{name} must not be negative, not {getattr(self, name)}.")
        if self.step_images < 1 or not 0 < self.step_factor <= 1:
            raise ValueError(
                "optim.step_images must be at least 1 and optim.step_factor in (0, 1], not "
                f"{self.step_images} and {self.step_factor}."
            )
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(f"optim.max_grad_norm must be positive, not {self.max_grad_norm}.")

    def lr_at(self, images_seen: int, total_images: int, network: str = "") -> float:
        """Learning rate of a network in the step that starts at ``images_seen``: linear warm-up, then the schedule."""
        lr = self.lr_of.get(network, self.lr)
        if images_seen < self.warmup_images:
            return lr * (images_seen + 1) / self.warmup_images
        if self.schedule == "constant":
            return lr
        if self.schedule == "step":
            return lr * self.step_factor ** (images_seen // self.step_images)
        progress = (images_seen - self.warmup_images) / max(1, total_images - self.warmup_images)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return lr * (self.final_lr_fraction + (1 - self.final_lr_fraction) * cosine)


@dataclass
class EMAConfig:
    """Exponential moving average of the weights, kept beside them and used for inference."""

    half_life_images: int = 0
    """Images after which a weight's share has halved; 0 keeps no average."""
    ramp_up: float = 0.09
    """Bounds the half-life by this share of the images seen: the first weights are soon forgotten. 0: no bound."""
    statistics_images: int = 1024
    """Training images from which batch norm's statistics of the average are estimated whenever it is used; 0 averages
    the running statistics instead."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.half_life_images < 0:
            raise ValueError(f"ema.half_life_images must not be negative, not {self.half_life_images}.")
        if self.statistics_images < 0:
            raise ValueError(f"ema.statistics_images must not be negative, not {self.statistics_images}.")
        if not 0 <= self.ramp_up < math.inf:
            raise ValueError(f"ema.ramp_up must be 0 or more, not {self.ramp_up}.")


@dataclass
class AugmentConfig:
    """Augmentation of training images; validation images are never changed."""

    flip: bool = True
    """Mirror left and right with probability 1/2."""
    brightness: float = 0.0
    """Multiply by a factor drawn from [1 - x, 1 + x]."""
    contrast: float = 0.0
    """Scale the distance from the image's mean luma by such a factor."""
    saturation: float = 0.0
    """Scale the distance from gray by such a factor."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be in [0, 1], not {getattr(self, name)}.")


@dataclass
class LoaderConfig:
    """How shards are read; only canonical_nodes changes which image is used when."""

    num_threads: int = 2
    """Threads that read and decode; 0 decodes in the training thread."""
    prefetch_batches: int = 4
    """Batches kept ready; small ones are read several at a time, and more of them."""
    decoded_gb: float = 1.0
    """Memory (GB) in which each process keeps decoded images for later epochs; 0 keeps none."""
    canonical_nodes: int | None = None
    """Cut the data into this many lanes, so that as many machines, or half or a quarter as many, each read only their
    share of the shards; a divisor of the batch. When null, a number that follows from the data set and the batch size,
    at most 64. The order depends on it, and a run keeps it to its end."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not 0 <= self.num_threads <= 1_000:
            raise ValueError(f"loader.num_threads must be from 0 to 1000, not {self.num_threads}.")
        if not 1 <= self.prefetch_batches <= 100_000:
            raise ValueError(f"loader.prefetch_batches must be from 1 to 100000, not {self.prefetch_batches}.")
        if not 0 <= self.decoded_gb < math.inf:
            raise ValueError(f"loader.decoded_gb must be 0 or more, not {self.decoded_gb}.")
        if self.canonical_nodes is not None and self.canonical_nodes < 1:
            raise ValueError(f"loader.canonical_nodes must be at least 1, not {self.canonical_nodes}.")


@dataclass
class MonitorConfig:
    """What is written while training, all counted in images."""

    log_every_images: int = 2_000
    """Scalars and the progress line."""
    grid_every_images: int = 20_000
    """Reconstruction and sample grids, as PNG and in TensorBoard; the first ones come after a tenth of this."""
    validate_every_images: int = 20_000
    """Held-out metrics and latent histograms; the first ones, which early stopping ignores, come after a tenth."""
    num_validation_images: int = 2_000
    """Largest number of held-out images to use."""
    trackers: list[str] = field(default_factory=lambda: [TENSORBOARD])
    """Where curves and pictures go beside the run's own files: tensorboard, wandb, mlflow, aim, trackio, or that of a
    plug-in."""
    tracker_project: str = "facegen"
    """Project, or experiment, of the run in trackers other than TensorBoard."""
    tracker_group: str | None = None
    """Group of the run in them; a sweep gives its trials its own name."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("log_every_images", "grid_every_images", "validate_every_images", "num_validation_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"monitor.{name} must be at least 1, not {getattr(self, name)}.")
        if len(set(self.trackers)) < len(self.trackers):
            raise ValueError(f"monitor.trackers must name each once, not {', '.join(self.trackers)}.")
        if unknown := set(self.trackers) - set(TRACKERS):
            known = [*TRACKERS, *plugin_names(TRACKER_PLUGINS)]
            for name in unknown - set(known):
                raise ValueError(f"monitor.trackers must be of {', '.join(known)}, not {shown(name)}.")
        for name in ("tracker_project", "tracker_group"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w .+=,-]*\w[\w .+=,-]*", value):
                raise ValueError(f"monitor.{name} must be letters, digits, spaces and .,+=_-, not {shown(value)}.")


@dataclass
class CheckpointConfig:
    """When the state is saved, and how much of it is kept."""

    every_images: int = 50_000
    """Images between two checkpoints; one is always saved at the end."""
    keep: int = 2
    """Checkpoints, and snapshots, to keep; at least 2."""

    def __post_init__(self) -> None:
        """Rejects impossible values, and those under which a checkpoint could be lost."""
        if self.every_images < 1:
            raise ValueError(f"checkpoint.every_images must be at least 1, not {self.every_images}.")
        if self.keep < 2:
            raise ValueError(f"checkpoint.keep must be at least 2, not {self.keep}: the last one may be damaged.")


@dataclass
class EarlyStopConfig:
    """When to stop before the limits; the snapshot of the best validation is kept in ``best/`` of the run."""

    metric: str | None = None
    """Held-out metric to watch, such as mse or accuracy; off when not given."""
    goal: Literal["min", "max"] = "min"
    """Whether a lower or a higher metric is better."""
    patience: int = 10
    """Stop after this many validations in a row without a new best."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.patience < 1:
            raise ValueError(f"early_stop.patience must be at least 1, not {self.patience}.")


@dataclass
class PerformanceConfig:
    """Speed; a run may resume with other values."""

    compile: bool = False
    """Compile the networks with torch.compile, which takes a while at the start. On a CPU it needs a C++ compiler, on a
    GPU Triton."""
    tf32: bool = True
    """Let NVIDIA GPUs multiply float32 numbers with 10 bits of mantissa (TF32); sums stay float32."""


@dataclass(kw_only=True)
class TrainConfig:
    """Options of a training run; ``config_class`` adds ``family`` and the family's own ``model`` options."""

    data: str
    """Data set directory, as shards.pack made it. Several are mixed: --data A --data B by size, --data A:0.7
    --data B:0.3 by weight."""
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
    """After the first step, a process that has waited this long for another one ends the run. Before it, and in sweeps,
    torch's own limit holds."""
    dry_run: bool = False
    """Build everything, train one step, keep no files."""
    profile: bool = False
    """Trace a few steps, after the first ones, with torch's profiler, into the run's folder profile."""
    init: str = "random"
    """First weights: ``random``; ``pca``, the best linear autoencoder of the images (needs a network with shortcut
    linear); or the run, snapshot or address (hub:USER/NAME) of a model to train on, for example from more faces than
    yours: what has the same name and shape there is taken, and what is not is printed."""
    freeze: list[str] = field(default_factory=list)
    """Weights that do not learn, as patterns of their names, such as 'autoencoder.encoder.*'. A name that none has is
    refused, with the names there are."""
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
        if not all(name.strip() for name in (self.run, self.data, self.init)):
            raise ValueError("data, run and init must not be empty.")
        if self.profile and self.dry_run:
            raise ValueError("profile needs more than the one step of dry_run; leave one of them out.")
        for name in ("global_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("max_images", "max_steps", "max_epochs", "process_timeout_sec"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= MAX_COUNT:
                raise ValueError(f"{name} must be a positive number of at most {MAX_COUNT:,}, not {shown(value)}.")

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
