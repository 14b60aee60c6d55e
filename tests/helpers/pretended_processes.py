"""Stand-ins for one process of a group, for tests of what processes exchange."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from facegen.processes.preemption import BatchT, StopFlag


class OneOfMany:
    """What ``validate`` needs of an accelerator: one process of a group whose totals are known beforehand."""

    device = torch.device("cpu")

    def __init__(self, process_index: int, num_processes: int, of_the_group: Tensor | None = None) -> None:
        self.process_index, self.num_processes, self.of_the_group = process_index, num_processes, of_the_group
        self.given: list[Tensor] = []

    def reduce(self, tensor: Tensor) -> Tensor:
        self.given.append(tensor)
        return tensor if self.of_the_group is None else self.of_the_group

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor


class AskedLater(StopFlag):
    """Counts its votes and is asked to stop before one of them."""

    def __init__(self, after_votes: int = 1_000) -> None:
        super().__init__()
        self.num_votes, self.after_votes = 0, after_votes

    def _next(self, batches: Iterator[BatchT]) -> BatchT | None:
        self.requested = self.num_votes >= self.after_votes
        self.num_votes += 1
        return super()._next(batches)
