"""Writes what a training would write, in a process of its own: RUN START TRACKERS COUNTS [kill]."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from accelerate import PartialState

from facegen.config import make_config
from facegen.reporting.monitor import Monitor


def main(run: str, start: str, trackers: str, counts: str, end: str = "") -> None:
    """Logs the counts, a tenth of each as its loss; ``kill`` ends without closing anything."""
    PartialState(cpu=True)
    options = {"monitor.trackers": json.loads(trackers), "monitor.tracker_group": "sweep 1"}
    config = make_config("vae", data="d", run=run, seed=7, **options)
    monitor = Monitor(Path(run), int(start), config)
    for count in json.loads(counts):
        values = {"train/loss": count / 10, "train/bad": float("nan")}
        monitor.scalars(values, count)
        if count % 4 == 0:
            monitor.scalars({"val/mse": count / 100}, count)
            monitor.picture("samples", torch.full((8, 6, 3), count, dtype=torch.uint8), count)
    if end:
        time.sleep(3)  # Trackers write in the background.
        os.kill(os.getpid(), signal.SIGKILL)
    monitor.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
