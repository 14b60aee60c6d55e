"""Options of a sweep: of ``python -m tuning.sweep`` and of ``tuning.sweep``. Imports neither ray nor torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class SweepConfig:
    """Options of a sweep."""

    space: str
    """Space file, or the name of a space that ships with the project."""
    data: str
    """Packed data set; trials train on its train split and are compared on its val split."""
    out: str
    """Folder of the sweep; the same command resumes what is there."""
    num_samples: int | None = None
    """Trials, instead of the space's; with grids, passes through all their combinations."""
    max_images: int | None = None
    """Images of a trial, instead of the space's."""
    evaluate_every_images: int | None = None
    """Images between two evaluations, instead of the space's."""
    scheduler: Literal["fifo", "asha", "pbt"] | None = None
    """Scheduler with its defaults, instead of the space's."""
    options: dict[str, Any] = field(default_factory=dict)
    """Training options for all trials, over those of the space: '{"optim.lr": 0.001, "seed": 1}'."""
    cpus_per_trial: float = 1.0
    """CPUs of one trial, over all its workers."""
    gpus_per_trial: float = 0.0
    """GPUs of one trial, over all its workers; a fraction shares one."""
    workers_per_trial: int = 1
    """Processes that train one trial together."""
    storage: str | None = None
    """Where machines without a shared file system keep checkpoints: s3://…, gs://…, any URL of fsspec. Each trial then
    trains in a folder of its own machine, is copied there at every evaluation, and is fetched to --out at the end."""
    address: str | None = None
    """Ray cluster to run on, such as auto; when null, Ray is started on this machine."""
    num_cpus: int | None = None
    """CPUs for a Ray that is started here; all when null."""
    max_concurrent: int | None = None
    """Trials at a time; when null, as many as there are resources for."""
    max_failures: int = 2
    """How often a trial that fails is retried from its newest checkpoint before it is given up."""
    retry_failed: bool = False
    """Retry trials that were given up before."""
    trust: bool = False
    """Resume a sweep that an older release or another user began, or whose folder was moved: its files can run code."""
    keep_best: int = 5
    """Finished trials that keep their checkpoints; the others keep only their newest weights."""

    report: bool = True
    """Write the report at the end, as python -m tuning.report does."""
    num_report_images: int = 1_000
    """Held-out images of the report, and as many samples."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("cpus_per_trial", "workers_per_trial", "num_cpus", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}.")
        for name in ("gpus_per_trial", "max_failures", "keep_best"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}.")
        if self.address and self.num_cpus:
            raise ValueError("num_cpus is for a Ray that is started here; leave it out with address.")
