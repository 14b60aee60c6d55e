"""Models of faces: trains autoencoders, GANs and face verifiers, and uses them. Importing this does not load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shards.base.interface import publish

if TYPE_CHECKING:
    from facegen.config import make_config
    from facegen.model import Model, load
    from facegen.options import TrainConfig
    from facegen.processes.failures import TrainingFailed
    from facegen.train import Trained, train

__version__ = "0.1.0"

__all__ = ["Model", "TrainConfig", "Trained", "TrainingFailed", "load", "make_config", "train"]

publish(
    __name__,
    {
        "Model": "facegen.model:Model",
        "TrainConfig": "facegen.options:TrainConfig",
        "Trained": "facegen.train:Trained",
        "TrainingFailed": "facegen.processes.failures:TrainingFailed",
        "load": "facegen.model:load",
        "make_config": "facegen.config:make_config",
        "train": "facegen.train:train",
    },
)
