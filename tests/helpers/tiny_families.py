"""Every registered family at a size that trains in a second, for the tests of all families."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facegen.families import FAMILIES, Family, build
from facegen.families.mod_vae import ClampedKind
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.dfc import DFCNetConfig
from facegen.networks.face_cnn import FaceNetConfig
from facegen.networks.flow.velocity import VelocityConfig
from facegen.networks.gan import DiscriminatorConfig, GeneratorConfig
from facegen.option_values import to_dict
from facegen.options import AugmentConfig
from facegen.perceptual.options import FeatureNetConfig
from facegen.runs.snapshot import Description, save_snapshot

IMAGE = ImageShape(3, 16, 16)


def _no_labels(num: int) -> dict[str, Tensor]:
    return {}


class Tiny(NamedTuple):
    """A small form of a family.

    Attributes:
        options: Its config's fields.
        labels: Makes the labels of a batch of so many images, as the loader does.
        unit_size: Images that belong together in a batch.
        falls: The loss term that training on one batch must lower.
        overfits: Whether it falls to nearly 0; not where noise keeps it up.
        learns: The turns to train for it; None for all. Two players of one game cannot both lower theirs.
        refused: Shape of images that its small networks cannot take.
    """

    options: dict[str, Any]
    labels: Callable[[int], dict[str, Tensor]] = _no_labels
    unit_size: int = 1
    falls: str = "mse"
    overfits: bool = True
    learns: tuple[str, ...] | None = None
    refused: ImageShape = ImageShape(3, 18, 16)


def _degrees(num: int) -> dict[str, Tensor]:
    """Degrees of smile from -1 to 1, every third of them unknown."""
    degrees = torch.linspace(-1, 1, num)
    degrees[1::3] = torch.nan
    return {"smile": degrees}


@functools.cache
def _autoencoder_run() -> str:
    """A run of a tiny VAE with its first weights, for as long as this process lives."""
    run = Path(tempfile.mkdtemp(prefix="facegen_tiny_"))
    atexit.register(shutil.rmtree, run, ignore_errors=True)
    options = tiny_config("vae")
    torch.manual_seed(0)
    described = {"name": "tiny", "family": "vae", "config": {"family": "vae", "model": to_dict(options)}}
    counts: dict[str, Any] = {"images_seen": 0, "step": 0, "epoch": 0.0, "versions": {}}
    data: dict[str, Any] = {"label_fields": {}, "dataset_name": "tiny", "dataset_fingerprint": ""}
    description = Description(**described, image_shape=list(IMAGE), **data, **counts)
    save_snapshot(run, description, {"raw": build("vae", options, IMAGE)}, keep=1)
    return str(run)


def _pairs(num: int) -> dict[str, Tensor]:
    """Pairs, alternately of one person and of two."""
    return {"same": (torch.arange(num) // 2 + 1) % 2}


def _two_kinds_of_pairs(num: int) -> dict[str, Tensor]:
    """Groups of two images, alternately of the first and the second kind."""
    return {"group_kind": torch.arange(num) // 2 % 2}


def _deep_features(**options: Any) -> dict[str, Any]:
    """A DFC-VAE that compares pixels and the first layers of the installed feature net."""
    network = DFCNetConfig(widths=[8, 16], decoder_widths=[16, 8], **options)
    features = FeatureNetConfig(layers=["stem", "blocks.1"])
    return {"latent_size": 6, "network": network, "mse_weight": 1.0, "kld_weight": 0.001, "features": features}


def _network(**options: Any) -> ConvNetConfig:
    return ConvNetConfig(**{"widths": [8, 16]} | options)


def _game() -> dict[str, Any]:
    """An autoencoder against a discriminator. With the hinge, the first gradients of its two sides would cancel."""
    options = {"latent_size": 6, "gan_loss": "bce", "adversarial_weight": 0.001, "network": _network()}
    return options | {"discriminator": DiscriminatorConfig(8, 16)}


def _face_net() -> FaceNetConfig:
    return FaceNetConfig(widths=[8, 16], fc_widths=[16], head_widths=[16, 16], dropout=0.0)


TINY: dict[str, Callable[[], Tiny]] = {
    "ae": lambda: Tiny({"latent_size": 6, "network": _network()}),
    "vae": lambda: Tiny({"latent_size": 6, "network": _network()}),
    "beta_vae": lambda: Tiny({"latent_size": 6, "network": _network()}),
    "dfc_vae": lambda: Tiny(_deep_features(), falls="perceptual"),
    "dfc_vae_resnet": lambda: Tiny(_deep_features(num_residual_blocks=1), falls="perceptual"),
    "dfc_vae_large": lambda: Tiny(_deep_features() | {"wide_tail": True}, falls="perceptual"),
    "cvae": lambda: Tiny({"latent_size": 6, "independence_weight": 0.1, "network": _network()}, _degrees),
    "face_cnn": lambda: Tiny(
        {"latent_size": 6, "network": _face_net()}, _pairs, unit_size=2, falls="loss", refused=ImageShape(3, 3, 16)
    ),
    "dcgan": lambda: Tiny(
        {"latent_size": 6, "generator": GeneratorConfig(8, 16), "discriminator": DiscriminatorConfig(8, 16)},
        falls="d_loss",
        learns=("discriminator",),
    ),
    "ae_gan": lambda: Tiny(_game()),
    "vae_gan": lambda: Tiny(_game()),
    "flow": lambda: Tiny(
        {
            "autoencoder": _autoencoder_run(),
            "label": "smile",
            "velocity": VelocityConfig(width=16, num_blocks=1, dropout=0.0),
            "num_steps": 2,
        },
        _degrees,
        falls="flow",
        overfits=False,
    ),
    "mod_vae": lambda: Tiny(
        {
            "latent_size": 6,
            "network": _network(),
            "kld_weight": 0.01,
            "reconstruction": "mean",
            "group_size": 2,
            "groups": [
                ClampedKind(same=["identity"], varies="smile", free=["0-2"]),
                ClampedKind(same=["glasses"], varies="identity", free=[3, 4, 5]),
            ],
        },
        _two_kinds_of_pairs,
        unit_size=2,
    ),
    # An installed plug-in is taken for a VAE, as that of tests/plugin is.
    **{name: lambda: Tiny({"latent_size": 6, "network": _network()}) for name in FAMILIES.plugins},
}


def tiny_config(name: str, **options: Any) -> Any:
    """A family's config dataclass; ``options`` replace its small defaults."""
    return FAMILIES[name].config_class(**TINY[name]().options | options)


def augment_for(name: str) -> AugmentConfig:
    """As much augmentation as a family supports."""
    family_class = FAMILIES[name].family_class
    brightness = 0.1 if family_class.augmentable and family_class.reads_images else 0.0
    return AugmentConfig(flip=family_class.augmentable, brightness=brightness)


def tiny_labels(name: str, num: int) -> dict[str, Tensor]:
    """Labels of ``num`` images for a family."""
    return TINY[name]().labels(num)


def tiny_family(name: str, image: ImageShape = IMAGE, **options: Any) -> Family:
    """A family with its initial weights, which are always the same."""
    torch.manual_seed(0)
    return build(name, tiny_config(name, **options), image)
