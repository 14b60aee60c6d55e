"""What a run writes while it trains: ``metrics.jsonl``, trackers with the same keys, pictures, progress.

And ``latent_usage.safetensors``, see ``facegen.latents.latent_history``.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from facegen.latents.latent_heatmap import heatmap_picture
from facegen.latents.latent_history import LatentHistory, continue_latent_history, write_latent_history
from facegen.latents.latent_stats import LatentStats
from facegen.options import TENSORBOARD, TrainConfig
from facegen.reporting.event_files import EventFiles
from facegen.reporting.trackers import open_trackers
from facegen.runs.metrics_file import METRICS_FILE, WARNING, drop_later
from shards.base.operating_system import peak_memory_bytes

PICTURES = "pictures"


class Monitor:
    """Writes files on the main process; on the others, and in a dry run, it does nothing."""

    def __init__(self, run: Path | None, images_seen: int, config: TrainConfig | None = None) -> None:
        """Continues the files of ``run`` at ``images_seen``; what an earlier process wrote beyond that is dropped.

        Args:
            run: The run directory; None writes nothing.
            images_seen: Images before the first step of this process.
            config: Options of the run, which name its trackers; TensorBoard alone where there are none.

        Raises:
            UserError: A tracker that does not start.
        """
        self.run = run
        if run is None:
            return
        (run / PICTURES).mkdir(parents=True, exist_ok=True)
        self._trackers = open_trackers(run, config) if config else []
        drop_later(run, images_seen)
        self._metrics = open(run / METRICS_FILE, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        has_events = config is None or TENSORBOARD in config.monitor.trackers
        self._events = EventFiles(run if has_events else None, images_seen)
        self._history = continue_latent_history(run, images_seen)
        self._is_history_drawn = True

    def scalars(self, values: dict[str, float], images_seen: int) -> None:
        """Writes named numbers; one that is not finite becomes null in ``metrics.jsonl``."""
        if self.run is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.write(json.dumps({"images_seen": images_seen, **finite}) + "\n")
        self._events.scalars(values, images_seen)
        for tracker in self._trackers:
            tracker.scalars({name: value for name, value in finite.items() if value is not None}, images_seen)

    def vector(self, name: str, values: Tensor, images_seen: int) -> None:
        """Writes one number per latent dim: all of them to ``metrics.jsonl``, their distribution to TensorBoard."""
        if self.run is not None:
            self._metrics.write(json.dumps({"images_seen": images_seen, name: values.tolist()}) + "\n")
            self._events.histogram(name, values, images_seen)

    def warning(self, text: str, images_seen: int) -> None:
        """Writes a sentence about a problem of the training."""
        if self.run is not None:
            self._metrics.write(json.dumps({"images_seen": images_seen, WARNING: text}) + "\n")
            self._events.text("warnings", text, images_seen)

    def histogram(self, name: str, values: Tensor, images_seen: int) -> None:
        """Writes the distribution of any tensor to TensorBoard."""
        if self.run is not None:
            self._events.histogram(name, values.float().cpu(), images_seen)

    def picture(self, name: str, image: Tensor, images_seen: int) -> None:
        """Writes a picture, uint8 height x width x C, to the trackers and as ``pictures/NAME_images_N.png``."""
        if self.run is None:
            return
        self._events.picture(name, image, images_seen)
        file = self.run / PICTURES / f"{name}_images_{images_seen:012d}.png"
        is_logged = file.exists()  # By a process that was killed.
        Image.fromarray(image.squeeze(-1).numpy()).save(file)
        for tracker in () if is_logged else self._trackers:
            tracker.picture(name, image, file, images_seen)

    def latent_usage(self, split: str, epoch: float, images_seen: int, stats: LatentStats) -> None:
        """Adds an epoch to the history: statistics of the latents of a split's first images."""
        if self.run is None:
            return
        usage = LatentHistory.of_epoch(split, epoch, images_seen, stats)
        self._history = self._history.then(usage) if self._history else usage
        self._is_history_drawn = False
        write_latent_history(self.run, self._history)

    def latent_heatmap(self, images_seen: int) -> None:
        """Draws the history of the latents if an epoch has ended since it was last drawn."""
        if self.run is None or self._is_history_drawn or self._history is None:
            return
        self.picture("latent_usage", heatmap_picture(self._history), images_seen)
        self._is_history_drawn = True

    def close(self) -> None:
        """Flushes and closes the files.

        Raises:
            OSError: Something of this run could not be written, now or earlier in the background.
        """
        if self.run is None:
            return
        with ExitStack() as files:
            for file in (self._metrics, self._events, *self._trackers):
                files.enter_context(closing(file))


class Meter:
    """Training speed since the last report; validation, pictures and saving between the steps do not count."""

    def __init__(self) -> None:
        """Starts empty; the first step warms up caches and kernels and does not count."""
        self._is_warm = False
        self._clear()

    def step(self, num_images: int, step_sec: float, waited_sec: float) -> None:
        """Counts one step: its images, its duration, and how much of that was waiting for data."""
        if self._is_warm:
            self._num_images += num_images
            self._steps_sec += step_sec
            self._waited_sec += waited_sec
        self._is_warm = True

    def report(self) -> dict[str, float]:
        """Speeds since the last report, if a step was counted, and peak memory in MiB."""
        report = {"peak_memory_mib": peak_memory_mib()}
        if self._num_images:
            report["images_per_sec"] = self._num_images / self._steps_sec
            report["data_wait_percent"] = 100 * self._waited_sec / self._steps_sec
        self._clear()
        return report

    def _clear(self) -> None:
        self._num_images, self._steps_sec, self._waited_sec = 0, 0.0, 0.0


def peak_memory_mib() -> float:
    """Peak memory: allocated on the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory_bytes() / 2**20


def progress_line(images_seen: int, total_images: int, epoch: float, values: dict[str, float]) -> str:
    """One line for a person: where the run is, its losses, its speed and the time left."""
    parts = [f"{images_seen:,}/{total_images:,} images", f"epoch {epoch:.2f}"]
    parts += [
        f"{name.removeprefix('train/')} {value:.4g}"
        for name, value in values.items()
        if name.startswith("train/") and name.count("/") == 1
    ]
    if "images_per_sec" in values:
        left_sec = round((total_images - images_seen) / values["images_per_sec"])
        parts.append(f"{values['images_per_sec']:.0f} images/s")
        parts.append(f"data wait {values['data_wait_percent']:.1f} %")
        parts.append(f"{left_sec // 3600}:{left_sec // 60 % 60:02d}:{left_sec % 60:02d} left")
    parts.append(f"memory {values['peak_memory_mib']:.0f} MiB")
    return " | ".join(parts)
