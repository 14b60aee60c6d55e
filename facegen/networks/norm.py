"""Batch norm of a network outside its own turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def averages_kept(network: nn.Module) -> Iterator[None]:
    """Freezes batch norm's running averages, while train mode still normalizes by the batch.

    For forwards in which a network serves another one's turn: its averages follow its own turns only, once a step.
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
