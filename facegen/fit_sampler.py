"""Fits a sampler to the latents of a trained run: ``python -m facegen.fit_sampler gaussian_mixture RUN --data DIR``."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch.nn.functional import adaptive_avg_pool2d

from facegen import __version__
from facegen.config import PRESETS, resolve_presets
from facegen.degrees import condition_fields
from facegen.model import Model, load
from facegen.option_values import to_dict
from facegen.pixels import to_float
from facegen.randomness import derive_seed
from facegen.runs.run_name import parse_run
from facegen.runs.snapshot import weights_sha256
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Latents, Sampler
from facegen.samplers.fitted import DIRECTORY, SamplerDescription, check_name, save_sampler
from shards.base.errors import UserError
from shards.base.files import output_folder
from shards.base.hub_address import HUB
from shards.base.progress import ProgressLine
from shards.command_line import cli
from shards.dataset.dataset import Dataset
from shards.dataset.mixture import open_dataset
from shards.loading.loader import evaluation_batches
from shards.loading.reader import check_split

THUMBNAIL_SIDE = 8
"""Enough for pose, hair and light."""


@dataclass(kw_only=True)
class SamplerFitConfig:
    """Options of every fit; ``command_class`` adds those of the sampler."""

    run: str
    """Run directory; its newest snapshot, or its best one after early stopping, encodes."""
    data: str
    """Data set directory whose training split is encoded."""
    name: str | None = None
    """Name of the fitted sampler in the run; null takes the sampler's own name."""
    num_images: int | None = None
    """Maximum number of images to encode; null encodes the whole split."""
    batch_size: int = 256
    """Images per encoder pass."""
    seed: int = 0
    """Seed of the fit."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; null takes the average if there is one."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes the accelerator if there is one."""


def command_class(sampler: str) -> type:
    """The options of one sampler's command: its own and those of every fit."""
    config_class = SAMPLERS[sampler].config_class
    return dataclasses.make_dataclass(
        "SamplerFitConfig",
        [],
        bases=(config_class, SamplerFitConfig),
        namespace={"__doc__": config_class.__doc__},
        kw_only=True,
    )


def main() -> None:
    """The entry point."""
    name, config = cli.parse_command(
        {sampler: command_class(sampler) for sampler in SAMPLERS},
        prog="python -m facegen.fit_sampler",
        description="Fit a density to the latents of a trained run, for better samples than its prior gives.",
        dest="sampler",
        positional=lambda sampler: ["run"],
        args=resolve_presets(sys.argv[1:], PRESETS / "samplers"),
    )
    if config.run.startswith(HUB):
        raise UserError(f"a sampler is stored in its run; download {config.run} (hf download), then give its folder.")
    called = name if config.name is None else config.name
    check_name(called)
    model = load(config.run, device=_device(config.device), weights=config.weights)
    dataset = open_dataset(config.data)
    check_fit(model, dataset)
    if dataset.fingerprint != model.dataset_fingerprint:
        print(f"note: {model.name} was trained on other data than {config.data}, which the sampler is fitted to.")
    assert model.run_dir is not None
    output_folder(model.run_dir / DIRECTORY)
    config_class = SAMPLERS[name].config_class
    own = config_class(**{item.name: getattr(config, item.name) for item in dataclasses.fields(config_class)})
    assert model.latent_size is not None
    num = num_encoded(dataset, config.num_images)
    SAMPLERS[name].sampler_class.check(own, num, model.latent_size)
    latents = encode(model, dataset, config.num_images, config.batch_size)
    sampler = fit(name, own, latents, config.seed)
    description = SamplerDescription(
        sampler=name,
        config=to_dict(own),
        latent_size=sampler.latent_size,
        images_seen=model.images_seen,
        weights=model.weights,
        weights_sha256=weights_sha256(model.snapshot, model.weights),
        dataset_fingerprint=dataset.fingerprint,
        split="train",
        num_images=len(latents.mu),
        seed=config.seed,
        versions={"facegen": __version__, "torch": version("torch")},
    )
    directory = save_sampler(model.run_dir, called, sampler, description)
    print(
        f"fitted {name} to {len(latents.mu):,} latents of {model.name} at {model.images_seen:,} images: {directory}\n"
        f"name the run with it: {parse_run(config.run).path}:{called}"
    )


def _device(choice: str) -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator if accelerator and choice == "auto" else torch.device("cpu")


def check_fit(model: Model, dataset: Dataset) -> None:
    """Checks that a sampler can be fitted to the model's latents of the data and stored in its run.

    Raises:
        UserError: A family without an encoder and a decoder, a moved snapshot, or images of another shape.
    """
    if not {"encode", "decode"} <= model.can:
        raise UserError(f"a sampler needs an encoder and a decoder; {model.family} can {', '.join(sorted(model.can))}.")
    if model.run_dir is None:
        raise UserError("a sampler is stored in its run; give the run directory, not a moved snapshot.")
    image = dataset.image
    if tuple(model.image_shape) != (image.channels, image.height, image.width):
        raise UserError(
            f"{model.name} encodes images of {'x'.join(map(str, model.image_shape))} (channels x height x width), but "
            f"{dataset.address} holds {image.channels}x{image.height}x{image.width}; give data of that shape."
        )
    check_split(dataset, "train")


def num_encoded(dataset: Dataset, num_images: int | None) -> int:
    """How many images of the training split are encoded.

    Raises:
        UserError: ``num_images`` below 1.
    """
    if num_images is not None and num_images < 1:
        raise UserError(f"num_images must be at least 1, not {num_images}.")
    available = dataset.num_samples("train")
    return available if num_images is None else min(num_images, available)


def encode(model: Model, dataset: Dataset, num_images: int | None, batch_size: int) -> Latents:
    """Latents of the training split, or of its first ``num_images``, on the model's device.

    Raises:
        UserError: ``num_images`` below 1.
    """
    total = num_encoded(dataset, num_images)
    means, logvars, thumbnails = [], [], []
    with ProgressLine("latents of train", total) as progress:
        fields = condition_fields(model.condition, dataset)
        for batch in evaluation_batches(dataset, "train", batch_size, limit=total, fields=fields):
            images = to_float(batch.images)
            mu, logvar = model.posterior(images, batch.labels)
            means.append(mu.float())
            logvars += [] if logvar is None else [logvar.float()]
            thumbnails.append(adaptive_avg_pool2d(images, THUMBNAIL_SIDE).flatten(1))
            progress.update(len(mu))
    logvar = torch.cat(logvars) if logvars else None
    identity = dataset.manifest.identity_field
    persons = torch.tensor(dataset.labels(identity, "train")[:total]).long() if identity else None
    return Latents(torch.cat(means), logvar, torch.cat(thumbnails), persons)


def fit(name: str, config: Any, latents: Latents, seed: int) -> Sampler:
    """Builds and fits a sampler on the latents' device; the same seed gives the same sampler.

    Raises:
        UserError: Latents that it cannot be fitted to.
    """
    if not latents.mu.isfinite().all():
        raise UserError(
            "some latents are not finite, because the training diverged; fit to an earlier snapshot or another run."
        )
    torch.manual_seed(derive_seed(seed, "sampler"))
    sampler = SAMPLERS[name].sampler_class(config, latents.mu.shape[1]).to(latents.mu.device)
    with ProgressLine(f"fitting {name} to {len(latents.mu):,} latents"):
        sampler.fit(latents, seed)
    return sampler.eval().requires_grad_(False)


if __name__ == "__main__":
    cli.run(main)
