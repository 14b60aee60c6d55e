"""Trains like facegen/train.py, and records each step.

Usage: record_run.py RECORD.jsonl FAMILY [options of facegen/train.py]. Each rank writes RECORD.jsonl.RANK: for each
step the images seen, the rank's rows and loss, a checksum of all parameters, and the cores that it may use.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

import torch

from facegen.config import parse_args
from facegen.processes.group import run_process
from facegen.training.trainer import Trainer


def checksum(module: torch.nn.Module) -> str:
    """A hash of every parameter's exact bytes."""
    digest = hashlib.sha256()
    for parameter in module.parameters():
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> int:
    """Trains and records."""
    trainer = Trainer(parse_args(sys.argv[2:]))
    with open(f"{sys.argv[1]}.{trainer.accelerator.process_index}", "w") as record:

        def on_step(trainer, batch, terms):
            line = {
                "images_seen": trainer.images_seen,
                "rows": batch.rows.tolist(),
                "loss": terms["loss"].item(),
                "parameters": checksum(trainer.family),
                "cores": sorted(os.sched_getaffinity(0)),
            }
            record.write(json.dumps(line) + "\n")

        return trainer.fit(on_step)


if __name__ == "__main__":
    run_process(main)
