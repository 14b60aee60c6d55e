"""Trains every case for a few steps and records each step; tests start it through a launcher.

Usage: record_families.py OUT DATA ACCUMULATION. The run of a case is OUT/CASE. Rank r writes OUT/CASE.r.jsonl: for each
step its rows, its loss terms, and a checksum of all parameters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "helpers"))

from facegen.config import config_class
from facegen.families import FAMILIES
from facegen.networks.gan import DiscriminatorConfig
from facegen.options import EMAConfig, LoaderConfig, OptimConfig
from facegen.processes.group import run_process
from facegen.training.trainer import Trainer
from record_run import checksum
from tiny_families import TINY, augment_for, tiny_config

NUM_STEPS = 4
_UNNORMALIZED = DiscriminatorConfig(8, 16, norm="none")


class Case(NamedTuple):
    """A family, options of its small form, and the half-life of its moving average."""

    family: str
    options: dict[str, Any] = {}
    ema_half_life_images: int = 0


CASES = {family: Case(family) for family in FAMILIES} | {
    # Options beyond the defaults on which processes must agree.
    "vae_ema": Case("vae", ema_half_life_images=16),
    "vae_learned_variance": Case(
        "vae", {"decoder_sigma": "learned", "kld_weight": 1.0, "reconstruction": "sum"}, ema_half_life_images=16
    ),
    "vae_analytic_variance": Case("vae", {"decoder_sigma": "analytic", "kld_weight": 1.0, "reconstruction": "sum"}),
    "cvae_independent": Case("cvae", {"independence_weight": 1.0, "conditioning": "decoder", "label_dropout": 0.3}),
    "dfc_vae_features_only": Case("dfc_vae", {"mse_weight": 0.0}),
    "dcgan_r1": Case("dcgan", {"loss": "hinge", "r1_weight": 1.0, "discriminator": _UNNORMALIZED}),
    "vae_gan_balanced": Case(
        "vae_gan",
        {
            "adversarial_weight": 0.5,
            "adaptive_weight": True,
            "feature_weight": 1.0,
            "feature_layer": 1,
            "equilibrium_margin": 0.02,
            "r1_weight": 1.0,
            "lecam_weight": 0.1,
            "discriminator": _UNNORMALIZED,
        },
    ),
}


def main() -> None:
    """Trains and records."""
    out, data, accumulation = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    for name, case in CASES.items():
        unit_size = TINY[case.family]().unit_size
        config = config_class(case.family)(
            data=data,
            run=str(out / name),
            global_batch_size=4 * unit_size * max(1, 4 // unit_size),
            gradient_accumulation_steps=accumulation,
            max_steps=NUM_STEPS,
            optim=OptimConfig(warmup_images=0),
            ema=EMAConfig(case.ema_half_life_images),
            augment=augment_for(case.family),
            loader=LoaderConfig(num_threads=0),
            model=tiny_config(case.family, **case.options),
        )
        trainer = Trainer(config)
        with open(out / f"{name}.{trainer.accelerator.process_index}.jsonl", "w") as record:

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
    run_process(main)
