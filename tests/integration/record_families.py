"""Trains every registered family for a few steps and writes down what each step did: started by a launcher in tests.

Usage: record_families.py OUT DATA ACCUMULATION. Rank r writes OUT/FAMILY.r.jsonl: for each step this rank's rows, its
loss terms, and a checksum of all parameters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facegen.augment import AugmentConfig
from facegen.config import LoaderConfig, config_class
from facegen.families import FAMILIES
from facegen.optim import OptimConfig
from facegen.trainer import Trainer
from record_run import checksum
from tiny_families import TINY, tiny_config

NUM_STEPS = 4


def main() -> None:
    """Trains and records."""
    out, data, accumulation = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    for family in FAMILIES:
        config = config_class(family)(
            data=data,
            run=str(out / family),
            global_batch_size=4 * TINY[family]().unit_size * max(1, 4 // TINY[family]().unit_size),
            gradient_accumulation_steps=accumulation,
            max_steps=NUM_STEPS,
            optim=OptimConfig(warmup_images=0),
            augment=AugmentConfig(flip=True, brightness=0.1),
            loader=LoaderConfig(num_threads=0),
            model=tiny_config(family),
        )
        trainer = Trainer(config)
        with open(out / f"{family}.{trainer.accelerator.process_index}.jsonl", "w") as record:

            def on_step(trainer, batch, terms, record=record):
                losses = {name: value.item() for name, value in terms.items() if value.ndim == 0}
                line = {
                    "rows": batch.rows.tolist(),
                    "losses": {name: value for name, value in losses.items() if not name.startswith("grad_norm")},
                    "parameters": checksum(trainer.family),
                }
                record.write(json.dumps(line) + "\n")

            trainer.fit(on_step)


if __name__ == "__main__":
    main()
