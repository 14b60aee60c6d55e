"""The history of a run's latent usage: one row per epoch, in one file of the run directory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from facegen.latents.latent_stats import LatentStats
from shards.base.errors import Note
from shards.base.files import write_bytes

LATENT_USAGE_FILE = "latent_usage.safetensors"


@dataclass(frozen=True)
class LatentHistory:
    """Statistics of L latent dims over the same images at the end of each of E epochs, oldest first.

    Raises:
        ValueError: Arrays whose shapes do not match.
    """

    split: str
    """Split whose first images are encoded."""
    epochs: np.ndarray
    """(E,) epochs trained; the last is fractional if the run ended within an epoch."""
    images_seen: np.ndarray
    """(E,) images trained on."""
    count: np.ndarray
    """(E,) images encoded."""
    mean: np.ndarray
    """(E, L) mean of mu."""
    variance: np.ndarray
    """(E, L) variance of mu (division by the number of images)."""
    kl: np.ndarray | None = None
    """(E, L) mean KL in nats; None without a posterior."""

    def __post_init__(self) -> None:
        """Rejects arrays of different histories."""
        num_epochs = len(self.epochs)
        for name, array in self.arrays().items():
            shape = self.mean.shape if name in ("mean", "variance", "kl") else (num_epochs,)
            if array.shape != shape or len(array) != num_epochs:
                raise ValueError(f"{name} has shape {array.shape}, but there are {num_epochs} epochs")

    @classmethod
    def of_epoch(cls, split: str, epoch: float, images_seen: int, stats: LatentStats) -> LatentHistory:
        """The history of a single epoch."""
        kl = stats.kl
        return cls(
            split=split,
            epochs=np.array([epoch], np.float32),
            images_seen=np.array([images_seen], np.int64),
            count=np.array([stats.count], np.int64),
            mean=stats.mean.numpy()[None].astype(np.float32),
            variance=stats.variance.numpy()[None].astype(np.float32),
            kl=None if kl is None else kl.numpy()[None].astype(np.float32),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, without ``kl`` if there is no posterior."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "split"}
        return {name: array for name, array in named.items() if array is not None}

    def then(self, later: LatentHistory) -> LatentHistory:
        """This history, continued by a later one of the same run."""
        added = later.arrays()
        joined = {name: np.concatenate([array, added[name]]) for name, array in self.arrays().items()}
        return LatentHistory(self.split, **joined)

    def until(self, images_seen: int) -> LatentHistory | None:
        """The epochs up to ``images_seen``; None if there are none."""
        kept = self.images_seen <= images_seen
        return LatentHistory(self.split, **{n: a[kept] for n, a in self.arrays().items()}) if kept.any() else None


def read_latent_history(run: str | Path) -> LatentHistory | None:
    """The history of a run directory; None if it has none or, with a warning, if its file is damaged."""
    path = Path(run) / LATENT_USAGE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return LatentHistory(file.metadata()["split"], **{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}) and is ignored.", Note, stacklevel=2)
        return None


def write_latent_history(run: Path, history: LatentHistory) -> None:
    """Writes the file of a run, all or nothing.

    Raises:
        OSError: The disk is full or not writable.
    """
    content = save(history.arrays(), metadata={"split": history.split})
    write_bytes(run / LATENT_USAGE_FILE, content, durable=False)


def continue_latent_history(run: Path, images_seen: int) -> LatentHistory | None:
    """The history of a run that resumes at ``images_seen``; drops later epochs from the file."""
    found = read_latent_history(run)
    kept = found and found.until(images_seen)
    if kept is None:
        (run / LATENT_USAGE_FILE).unlink(missing_ok=True)
    else:
        write_latent_history(run, kept)
    return kept
