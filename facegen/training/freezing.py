"""Weights that do not learn (``--freeze``), for training on from another model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from facegen.families.base import Family
from shards.base.errors import UserError, shown

_NUM_NAMED = 12


def freeze(family: Family, patterns: Sequence[str]) -> None:
    """Excludes from learning the weights whose names match a pattern; batch norm there keeps its statistics.

    Args:
        family: Its networks are changed.
        patterns: As ``fnmatch`` takes them, of names such as ``autoencoder.encoder.stages.0.weight``.

    Raises:
        UserError: A pattern that matches nothing, or a network that is left with nothing to learn.
    """
    learning = {name: weight for name, weight in family.networks.named_parameters() if weight.requires_grad}
    for pattern in patterns:
        matched = [name for name in learning if fnmatchcase(name, pattern)]
        if not matched:
            raise UserError(f"freeze: no weight is called {shown(pattern)}; there are {_listed(list(learning))}.")
        for name in matched:
            learning[name].requires_grad_(False)
    if not patterns:
        return
    for name, network in family.networks.items():
        if not any(weight.requires_grad for weight in network.parameters()):
            raise UserError(f"freeze leaves nothing to learn in the {name}; freeze less of it.")
    for module in family.networks.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(w.requires_grad for w in own):
            module.momentum = 0.0


def _listed(names: list[str]) -> str:
    """The first names, cut to whole modules where there are many."""
    modules = (".".join([*name.split(".")[:3], "*"]) if name.count(".") > 2 else name for name in names)
    short = list(dict.fromkeys(modules))
    return ", ".join(short[:_NUM_NAMED]) + (", ..." if len(short) > _NUM_NAMED else "")
