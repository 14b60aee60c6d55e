"""Feature nets from timm, under its model names and with its downloads."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from facegen.perceptual.torchvision_ops import make_torchvision_importable
from shards.base.errors import UserError


class TimmNet(NamedTuple):
    """A timm network.

    Attributes:
        backbone: Maps normalized images to a list with one tensor per layer.
        name: timm's name, with the tag of the weights.
        mean: Mean of the training pixels in [0, 1], for each channel.
        std: Their deviation, for each channel.
        sha256: Checksum of the tensors and their names.
    """

    backbone: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str


class _NamedNodes(nn.Module):
    """The outputs of a traced graph as a list, in the requested order."""

    def __init__(self, graph: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.graph, self.layers = graph, list(layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = self.graph(images)
        return [outputs[layer] for layer in self.layers]


def load_timm(model_name: str, layers: Sequence[str], tensors: Mapping[str, Tensor] | None) -> TimmNet:
    """Loads a timm model.

    Args:
        model_name: A name of ``timm.list_models()``.
        layers: Numbers of the feature levels that timm defines for the model, or names of its modules.
        tensors: Its weights; None takes timm's own, from the hub or its cache.

    Raises:
        UserError: timm is not installed, or lacks the model, its weights or its layers.
    """
    timm = _import_timm()
    _check_name(model_name, timm.list_models())
    by_number = all(layer.isdigit() for layer in layers)
    options: dict[str, Any] = {"pretrained": True}
    if tensors is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": dict(tensors)}
    if by_number:
        options |= {"features_only": True, "out_indices": tuple(map(int, layers))}
    try:
        network = timm.create_model(model_name, **options)
        if not by_number:
            network = _NamedNodes(timm.models.create_feature_extractor(network.eval(), list(layers)), layers)
    except OSError:
        raise UserError(
            f"timm could not download the weights of {model_name}; give a file as --model.features.weights."
        ) from None
    except IndexError:
        raise UserError(
            f"{model_name} has fewer feature levels than --model.features.layers names; name lower ones."
        ) from None
    except (RuntimeError, ValueError, AssertionError) as error:
        problem = " ".join(str(error).split())[:160]
        raise UserError(f"timm cannot extract {', '.join(layers)} from {model_name}: {problem}") from None
    known = timm.get_pretrained_cfg(model_name)
    name = f"{known.architecture}.{known.tag}" if known.tag and tensors is None else known.architecture
    return TimmNet(network, name, tuple(known.mean), tuple(known.std), _sha256_of_tensors(network))


def _check_name(model_name: str, known: Sequence[str]) -> None:
    if model_name.split(".")[0] in known:
        return
    similar = difflib.get_close_matches(model_name, known, n=3)
    hint = f"similar: {', '.join(similar)}." if similar else "timm.list_models() lists all."
    raise UserError(f"timm has no model {model_name}; {hint}")


def _import_timm() -> Any:
    make_torchvision_importable()  # timm imports torchvision.
    try:
        import timm  # type: ignore[import-not-found]
    except ImportError:
        raise UserError("features.kind timm needs timm; install it with: pip install 'facegen[perceptual]'") from None
    return timm


def _sha256_of_tensors(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
