"""Normalization layers, and batch norm of a network outside its own turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

GROUP_CHANNELS = 8
"""Channels of a group of GroupNorm, at least; there are at most 32 groups, as in the paper."""


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm (Wu and He 2018) with groups of ``GROUP_CHANNELS`` channels or more, as far as ``width`` divides."""
    largest = max(1, min(32, width // GROUP_CHANNELS))
    return nn.GroupNorm(next(groups for groups in range(largest, 0, -1) if width % groups == 0), width)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers that keep running averages of their batches' statistics."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@contextmanager
def averages_kept(network: nn.Module) -> Iterator[None]:
    """Freezes batch norm's running averages, while train mode still normalizes by the batch.

    For forwards in which a network serves another one's turn: its averages follow its own turns only, once a step.
    """
    norms = batch_norms(network)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
