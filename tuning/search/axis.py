"""One axis of a search space: the values that an option may take."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ray import tune


@dataclass(frozen=True)
class SearchAxis:
    """The values of one option; exactly one of the fields is given."""

    grid: list[Any] | None = None
    """Every value, combined with every value of the other grids."""
    choice: list[Any] | None = None
    """One of these, all equally likely."""
    uniform: tuple[float, float] | None = None
    """A number between two, uniformly distributed."""
    loguniform: tuple[float, float] | None = None
    """A number between two above 0, its logarithm uniformly distributed."""
    integer: tuple[int, int] | None = None
    """A whole number between two, both included, uniformly distributed."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        kinds = [item.name for item in dataclasses.fields(self)]
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"an option to search needs exactly one of {', '.join(kinds)}, not {len(given)} of them.")
        kind, values = given[0], getattr(self, given[0])
        if kind in ("grid", "choice"):
            if not values:
                raise ValueError(f"{kind} needs at least one value.")
            return
        low, high = values
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{kind} needs a lower and a higher number, not {low} and {high}.")
        if kind == "loguniform" and low <= 0:
            raise ValueError(f"loguniform needs numbers above 0, not {low}.")

    @property
    def is_grid(self) -> bool:
        """Whether every value is tried."""
        return self.grid is not None

    @property
    def examples(self) -> list[Any]:
        """All listed values, or the two ends of a range."""
        for values in (self.grid, self.choice, self.uniform, self.loguniform, self.integer):
            if values is not None:
                return list(values)
        raise AssertionError("unreachable")

    def domain(self) -> Any:
        """What Ray Tune draws the option's values from."""
        if self.grid is not None:
            return tune.grid_search(self.grid)
        if self.choice is not None:
            return tune.choice(self.choice)
        if self.uniform is not None:
            return tune.uniform(*self.uniform)
        if self.loguniform is not None:
            return tune.loguniform(*self.loguniform)
        assert self.integer is not None
        return tune.randint(self.integer[0], self.integer[1] + 1)

    def mutations(self) -> Any:
        """What population based training changes the option to: neighbors in a list, or factors within a range."""
        return list(self.choice) if self.choice is not None else self.domain()
