"""The data plane: packs faces into shards, and reads them in an order that any number of processes can resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shards.base.interface import publish
from shards.base.places import spin_briefly

if TYPE_CHECKING:
    from shards.base.errors import UserError
    from shards.dataset.dataset import Dataset
    from shards.loading.loader import TrainLoader, evaluation_batches
    from shards.packing.pack import pack

__all__ = ["Dataset", "TrainLoader", "UserError", "evaluation_batches", "pack"]

spin_briefly()
publish(
    __name__,
    {
        "Dataset": "shards.dataset.dataset:Dataset",
        "TrainLoader": "shards.loading.loader:TrainLoader",
        "UserError": "shards.base.errors:UserError",
        "evaluation_batches": "shards.loading.loader:evaluation_batches",
        "pack": "shards.packing.pack:pack",
    },
)
