"""Running means of named tensors, kept on the device and merged across processes only when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from accelerate import Accelerator
from torch import Tensor


class Averages:
    """Means of named tensors over a number of equally weighted additions."""

    def __init__(self) -> None:
        """Starts empty."""
        self._sums: dict[str, Tensor] = {}
        self._num_added = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one value of each name, always of the same names and shapes."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._num_added += 1

    def local(self) -> dict[str, Tensor]:
        """The means of this process so far."""
        return {name: total / self._num_added for name, total in self._sums.items()}

    def read(self, accelerator: Accelerator) -> dict[str, Tensor]:
        """The means over all processes, on the CPU; starts again. Every process must call it at the same step."""
        means = self.local()
        self._sums, self._num_added = {}, 0
        return {name: cast(Tensor, accelerator.reduce(mean, "mean")).cpu() for name, mean in means.items()}
