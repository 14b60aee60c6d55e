"""A run's first weights: random ones, the best linear model of the images, or those of another model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from facegen.families.base import Family
from facegen.networks.components import ComponentDecoder
from facegen.optimization.state import TrainState
from facegen.options import TrainConfig
from facegen.runs.snapshot import find_snapshot
from facegen.trained import load_family
from facegen.training.linear_start import linear_start
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset

_NUM_NAMED = 6


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
        accelerator.print(_continue_from(config.init, family))
    if state.ema:
        state.ema.restart()


def _continue_from(path: str, family: Family) -> str:
    """Takes every tensor that the model at ``path`` has under the same name in the same shape; says what stays random.

    Raises:
        UserError: No model there, or one that has none of the networks, or none of the tensors.
    """
    try:
        given = load_family(find_snapshot(Path(path)))[0].networks
    except UserError as error:
        raise UserError(f"--init takes random, pca or a trained model: {error}") from None
    if not any(name in given for name in family.networks):
        names, others = ", ".join(family.networks), ", ".join(given)
        raise UserError(f"--init {path}: that model has the networks {others}, and this family {names}; give another.")
    ours, theirs = family.networks.state_dict(), given.state_dict()
    taken = {name: theirs[name] for name, value in ours.items() if name in theirs and theirs[name].shape == value.shape}
    if not any(value.ndim > 1 for value in taken.values()):
        raise UserError(
            f"--init {path}: no weight there has the name and shape of one here, such as {_difference(ours, theirs)}; "
            "set the same options under model, and pack images of the same size."
        )
    left = [name for name in ours if name not in taken]
    learning = dict(family.networks.named_parameters())
    stuck = [name for name in left if name in learning and not learning[name].requires_grad]
    if stuck:
        raise UserError(
            f"--init {path}: {_described(stuck[0], ours, theirs)} does not learn and cannot be taken, so it would stay "
            "random; set the same latents and components as there, or freeze less."
        )
    family.networks.load_state_dict(taken, strict=False)
    if not left:
        return f"--init {path}: all {len(ours)} tensors are taken"
    named = ", ".join(_described(name, ours, theirs) for name in left[:_NUM_NAMED])
    more = ", ..." if len(left) > _NUM_NAMED else ""
    return f"--init {path}: {len(taken)} of {len(ours)} tensors are taken; random stay {named}{more}"


def _described(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """A tensor with its shape here and there, such as ``decoder.weight (8 x 4; there 8 x 2)``."""
    here = " x ".join(map(str, ours[name].shape))
    there = " x ".join(map(str, theirs[name].shape)) if name in theirs else "none"
    return f"{name} ({here}; there {there})"


def _difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    name = next((name for name in ours if name in theirs), next(iter(ours)))
    return _described(name, ours, theirs)
