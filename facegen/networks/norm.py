"""Batch norm of a network that only looks on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def averages_kept(network: nn.Module) -> Iterator[None]:
    """Keeps batch norm's running averages where they are, while train mode still normalizes by the batch.

    For the forwards in which a network serves the turn of another: its averages follow its own turns, once a step.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
