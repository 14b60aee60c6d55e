"""A run's first weights: random ones, the best linear model of the images, or those of another model."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from facegen.families.base import Family
from facegen.networks.components import ComponentDecoder
from facegen.optimization.state import TrainState
from facegen.options import TrainConfig
from facegen.runs.snapshot import find_snapshot
from facegen.trained import load_family
from facegen.training.linear_start import linear_start
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


def initialize(state: TrainState, config: TrainConfig, dataset: Dataset, accelerator: Accelerator) -> None:
    """Sets the first weights of the family and of its moving average as ``--init`` asks.

    Every process must call it.

    Raises:
        UserError: Networks that cannot start in this way, or a model that cannot be read.
    """
    family = state.family
    if config.init == "random":
        if any(isinstance(module, ComponentDecoder) for module in family.networks.modules()):
            raise UserError("a network with components.num needs the components of the images: add --init pca.")
        return
    if config.init == "pca":
        linear_start(family, config, dataset, accelerator)
    else:
        _continue_from(config.init, family)
    if state.ema:
        state.ema.restart()


def _continue_from(path: str, family: Family) -> None:
    """Takes every network that the model at ``path`` has, too; the others stay random."""
    try:
        given = load_family(find_snapshot(Path(path)))[0].networks
    except UserError as error:
        raise UserError(f"--init takes random, pca or a trained model: {error}") from None
    shared = [name for name in family.networks if name in given]
    if not shared:
        names, others = ", ".join(family.networks), ", ".join(given)
        raise UserError(f"--init {path}: that model has the networks {others}, and this family {names}; give another.")
    for name in shared:
        ours, theirs = family.networks[name].state_dict(), given[name].state_dict()
        shapes, other_shapes = ({key: tuple(value.shape) for key, value in own.items()} for own in (ours, theirs))
        if shapes != other_shapes:
            key = next(key for key in {**shapes, **other_shapes} if shapes.get(key) != other_shapes.get(key))
            raise UserError(
                f"--init {path}: its {name} differs from this one in {key} ({other_shapes.get(key, 'missing')} and "
                f"{shapes.get(key, 'missing')}); set the same options under model, and pack images of the same size."
            )
        family.networks[name].load_state_dict(theirs)
