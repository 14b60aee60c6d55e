"""Space files: what a sweep searches, by which objective, with which scheduler and searcher."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from facegen.families import FAMILIES
from facegen.option_values import refuse_unused, to_dict
from shards.base.errors import UserError
from shards.base.yaml_text import read_yaml
from shards.command_line.cli import from_values
from tuning.search.axis import SearchAxis
from tuning.search.objective import Objective

SPACES = Path(__file__).resolve().parents[1] / "spaces"

# Training options that the sweep sets, and what to use instead.
_RESERVED = {
    "data": "--data",
    "run": "--out",
    "dry_run": "nothing",
    "max_images": "max_images of the space",
    "max_steps": "max_images of the space",
    "max_epochs": "max_images of the space",
    "monitor.validate_every_images": "evaluate_every_images of the space",
    "checkpoint.every_images": "evaluate_every_images of the space",
    "checkpoint.keep": "nothing",
}


_MAX_RUNGS = 1000


@dataclass(frozen=True)
class SchedulerConfig:
    """Decides at each evaluation of a trial whether it continues."""

    kind: Literal["fifo", "asha", "pbt"] = "fifo"
    """``fifo``: all trials run to the end. ``asha``: asynchronous successive halving (Li et al. 2020) stops the worse
    ones early. ``pbt``: population based training (Jaderberg et al. 2017); the worst trials continue from the best
    ones' state with changed options."""
    grace_images: int | None = None
    """asha: images that every trial may train on; evaluate_every_images when null."""
    reduction_factor: float = 3.0
    """asha: one in so many trials continues, at grace_images and at each further multiple by this factor."""
    perturb_every_images: int | None = None
    """pbt: images between two exchanges; evaluate_every_images when null."""
    quantile_fraction: float = 0.25
    """pbt: fraction of the trials that continue from another one's state, and of those whose state is copied."""

    def __post_init__(self) -> None:
        """Rejects impossible values, and options that this scheduler does not read."""
        asha, pbt = ("grace_images", "reduction_factor"), ("perturb_every_images", "quantile_fraction")
        unused = {"fifo": asha + pbt, "asha": pbt, "pbt": asha}[self.kind]
        refuse_unused(self, unused, f"with scheduler {self.kind}")
        for name in ("grace_images", "perturb_every_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"scheduler.{name} must be at least 1, not {value}.")
        if not 1 < self.reduction_factor < math.inf:
            raise ValueError(f"scheduler.reduction_factor must be a number above 1, not {self.reduction_factor}.")
        if not 0 < self.quantile_fraction <= 0.5:
            raise ValueError(f"scheduler.quantile_fraction must be above 0 and at most 0.5: {self.quantile_fraction}.")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space; a YAML file holds these fields."""

    family: str
    """Family that is trained."""
    preset: str | None = None
    """Preset or YAML file that the trials start from; the family's defaults when null."""
    options: dict[str, Any] = field(default_factory=dict)
    """Training options of all trials that differ from the preset, by their dotted names."""
    search: dict[str, SearchAxis]
    """Values of the training options that are searched, by their dotted names."""
    max_images: int
    """Images that each trial trains on, unless it is stopped early."""
    evaluate_every_images: int | None = None
    """Images between two evaluations, each with a checkpoint; a quarter of max_images when null."""
    objective: Objective = field(default_factory=Objective)
    """What is minimised."""
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    """Which trials continue."""
    searcher: Literal["random", "optuna"] = "random"
    """What proposes trials: grids and random draws, or Optuna's TPE (Bergstra et al. 2011) from earlier results."""
    num_samples: int = 1
    """Trials; with grids, passes through all their combinations."""
    seed: int = 0
    """Seed of the searcher; training's own seed is the option ``seed``."""

    def __post_init__(self) -> None:
        """Rejects impossible values and combinations."""
        if self.family not in FAMILIES:
            near = difflib.get_close_matches(self.family, FAMILIES, n=1)
            raise ValueError(
                f"there is no family '{self.family}'; " + (f"did you mean '{near[0]}'?" if near else "see --help.")
            )
        for name in ("max_images", "num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.evaluate_every_images is not None and not 1 <= self.evaluate_every_images <= self.max_images:
            raise ValueError(
                f"evaluate_every_images must be from 1 to max_images, {self.max_images}, not "
                f"{self.evaluate_every_images}."
            )
        if not self.search:
            raise ValueError("search names no option; give at least one.")
        for name in (*self.options, *self.search):
            if name in _RESERVED:
                raise ValueError(f"{name} is set by the sweep for all trials; use {_RESERVED[name]} instead.")
        both = sorted(set(self.options) & set(self.search))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be fixed and searched at once; leave it out of one.")
        self._check_combination()

    def _check_combination(self) -> None:
        first = self.scheduler.grace_images or self.evaluation_interval
        if first > self.max_images:
            raise ValueError(
                f"scheduler.grace_images {first:,} is more than the max_images of a trial, {self.max_images:,}; lower "
                "it, or leave it out."
            )
        num_rungs = math.log(max(1.0, self.max_images / first)) / math.log(self.scheduler.reduction_factor)
        if num_rungs > _MAX_RUNGS:
            raise ValueError(
                f"scheduler.reduction_factor {self.scheduler.reduction_factor} halts trials at {num_rungs:,.0f} "
                f"moments; raise it until there are at most {_MAX_RUNGS}."
            )
        grids = [name for name, axis in self.search.items() if axis.is_grid]
        if grids and self.searcher == "optuna":
            raise ValueError(f"optuna searches no grids; make {', '.join(grids)} a choice.")
        if self.scheduler.kind == "pbt":
            if self.searcher == "optuna":
                raise ValueError("pbt draws and changes options by itself; use searcher random.")
            if grids:
                raise ValueError(f"pbt changes options while training; make {', '.join(grids)} a choice or a range.")
            if self.num_samples < 2:
                raise ValueError("pbt needs a population: num_samples of at least 2.")
        if len(grids) == len(self.search) and self.num_samples > 1:
            raise ValueError(
                f"num_samples {self.num_samples} would repeat every combination of the grids with the same result; "
                "leave it out, or search the option seed as well."
            )

    @property
    def evaluation_interval(self) -> int:
        """Images between two evaluations."""
        return self.evaluate_every_images or max(1, self.max_images // 4)

    @property
    def num_trials(self) -> int:
        """Number of trials of the sweep."""
        return self.num_samples * math.prod(len(axis.grid) for axis in self.search.values() if axis.grid is not None)


def read_space(name: str, changes: dict[str, Any] | None = None, options: dict[str, Any] | None = None) -> Space:
    """Reads a space file.

    Args:
        name: A file, or the name of a space that ships with the project.
        changes: Fields to replace.
        options: Training options to add to those of the file.

    Raises:
        UserError: No such file, or one that is not a space.
    """
    path = Path(name) if Path(name).is_file() else SPACES / f"{name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        shipped = sorted(file.stem for file in SPACES.glob("*.yaml"))
        near = difflib.get_close_matches(name, shipped, n=3, cutoff=0.3) or shipped
        raise UserError(f"{name} is neither a file nor a space; near it: {', '.join(near)}.")
    values = read_yaml(path, "fix the file")
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a space; it must name a family, max_images and the options to search.")
    values |= changes or {}
    if options:
        fixed = values.get("options") or {}
        values["options"] = {**fixed, **options} if isinstance(fixed, dict) else fixed
    return space_from_dict(values, str(path))


def space_from_dict(values: dict[str, Any], source: str) -> Space:
    """A space from plain values, checked like a file.

    Raises:
        UserError: A wrong name or value; the sentence begins with ``source``.
    """
    return from_values(Space, values, source)


def space_to_dict(space: Space) -> dict[str, Any]:
    """The plain values that ``space_from_dict`` reads."""
    values = to_dict(space)
    values["search"] = {
        name: {kind: value for kind, value in to_dict(axis).items() if value is not None}
        for name, axis in space.search.items()
    }
    return values
