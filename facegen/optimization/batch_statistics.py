"""Batch norm's statistics of averaged weights, re-estimated over training images (Wu and Johnson 2021, "precise BN").

An average of weights has activations of its own, which an average of running statistics does not describe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facegen.families.base import Family, TrainBatch
from facegen.networks.norm import averages_kept, batch_norms
from facegen.processes.group import sum_over_processes

Batches = Callable[[], Iterable[TrainBatch]]


class BatchStatistics:
    """Sets batch norm's running statistics to those of a fixed set of training batches."""

    def __init__(self, batches: Batches, accelerator: Accelerator) -> None:
        """Takes what to estimate from.

        Args:
            batches: This process's share of the batches, all of one size; the same at every call.
            accelerator: The processes that share them.
        """
        self._batches = batches
        self._accelerator = accelerator

    @torch.no_grad()
    def estimate(self, family: Family) -> None:
        """Sets the statistics of every batch norm that the networks of inference pass; every process must call it.

        Args:
            family: In eval mode, so that dropout is off as it is at inference.
        """
        norms = batch_norms(family.networks)
        networks = dict(family.networks.items())
        with averages_kept(family.networks), _normalizing_by_batch(norms), _recorded(norms) as moments:
            for batch in self._batches():
                family.forward_as_trained(networks, batch)
        sums = torch.cat([_sums(norm, found) for norm, found in zip(norms, moments, strict=True)])
        totals = sum_over_processes(sums, self._accelerator)
        for norm, total in zip(norms, totals.split([1 + 2 * norm.num_features for norm in norms]), strict=True):
            count, (mean, square) = total[0], total[1:].view(2, -1)
            if count:  # A discriminator is not passed.
                assert norm.running_mean is not None and norm.running_var is not None
                norm.running_mean.copy_(mean / count)
                norm.running_var.copy_(square / count - (mean / count).square())


@contextmanager
def _normalizing_by_batch(norms: list[_BatchNorm]) -> Iterator[None]:
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()


@contextmanager
def _recorded(norms: list[_BatchNorm]) -> Iterator[list[list[Tensor]]]:
    """For each norm, the mean and mean square of its channels in each forward, 2 x channels."""
    moments: list[list[Tensor]] = [[] for _ in norms]
    with ExitStack() as hooks:
        for norm, found in zip(norms, moments, strict=True):
            hooks.callback(norm.register_forward_pre_hook(partial(_record, found)).remove)
        yield moments


def _record(found: list[Tensor], norm: nn.Module, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=0)
    found.append(torch.stack([mean, variance + mean.square()]))


def _sums(norm: _BatchNorm, found: list[Tensor]) -> Tensor:
    """The number of forwards and the sums of their moments, float64, 1 + 2 * channels."""
    sums = torch.stack(found).cpu().double().sum(0) if found else torch.zeros(2, norm.num_features).double()
    return torch.cat([torch.tensor([float(len(found))]).double(), sums.flatten()])
