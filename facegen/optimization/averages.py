"""Means of named loss terms: over the steps of a window, the parts of a batch, and the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from facegen.processes.group import sum_over_processes

_NUM_PENDING = 64
"""Additions to sum at once: each operation on a scalar takes longer than its arithmetic."""


class Averages:
    """Running means of named tensors, kept on the device and merged across processes only when they are read."""

    def __init__(self) -> None:
        """Starts empty."""
        self._sums: dict[str, Tensor] = {}
        self._num_summed = 0
        self._pending: list[Mapping[str, Tensor]] = []

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one value of each name, always of the same names and shapes; the tensors must not change later."""
        self._pending.append(values)
        if len(self._pending) == _NUM_PENDING:
            self._sum()

    def read(self, accelerator: Accelerator) -> dict[str, Tensor]:
        """The means over all processes, on the CPU, and a fresh start; every process must call it at the same step."""
        self._sum()
        means = {name: total / self._num_summed for name, total in self._sums.items()}
        self._sums, self._num_summed = {}, 0
        return {name: cast(Tensor, accelerator.reduce(mean, "mean")).cpu() for name, mean in means.items()}

    def _sum(self) -> None:
        """Adds what is pending to the sums."""
        for name in self._pending[0] if self._pending else ():
            total = torch.stack([values[name] for values in self._pending]).sum(0)
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._num_summed += len(self._pending)
        self._pending = []


def means_of(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The means of named tensors over the equally weighted parts of a batch."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}


def means_over_processes(terms: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    """The means of scalars over all processes; every process must call it at the same step."""
    means = sum_over_processes(torch.stack([*terms.values()]), accelerator) / accelerator.num_processes
    return dict(zip(terms, means.tolist(), strict=True))
