"""Fits a sampler to the latents of a trained run: ``python -m facegen.fit_sampler gaussian_mixture RUN --data DIR``."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
from tqdm import tqdm

from facegen import __version__
from facegen.config import PRESETS, resolve_presets
from facegen.model import Model, load
from facegen.options import to_dict
from facegen.pixels import to_float
from facegen.randomness import derive_seed
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Latents, Sampler
from facegen.samplers.fitted import SamplerDescription, check_name, save_sampler, weights_sha256
from shards.base import cli
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches
from shards.loading.reader import check_split


@dataclass(kw_only=True)
class FitConfig:
    """Options of every sampler's fit; ``command_class`` adds the sampler's own."""

    run: str
    """Run directory whose newest snapshot encodes."""
    data: str
    """Data set directory; its training split is encoded."""
    name: str | None = None
    """What the fitted sampler is called in the run; the sampler's own name when null."""
    num_images: int | None = None
    """Images that are encoded at most; the whole split when null."""
    batch_size: int = 256
    """Images in one pass of the encoder."""
    seed: int = 0
    """Seed of whatever is random in the fit."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; the average where there is one when null."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes the accelerator where there is one."""


def command_class(sampler: str) -> type:
    """The options of a sampler's command: its own and those of every fit."""
    config_class = SAMPLERS[sampler].config_class
    return dataclasses.make_dataclass(
        "FitConfig", [], bases=(config_class, FitConfig), namespace={"__doc__": config_class.__doc__}, kw_only=True
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
    called = name if config.name is None else config.name
    check_name(called)
    config_class = SAMPLERS[name].config_class
    own = config_class(**{item.name: getattr(config, item.name) for item in dataclasses.fields(config_class)})
    auto = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = auto if auto and config.device == "auto" else torch.device("cpu")
    model = load(config.run, device=device, weights=config.weights)
    dataset = Dataset(config.data)
    check_fit(model, dataset)
    if dataset.fingerprint != model.dataset_fingerprint:
        print(f"note: {model.name} was trained on other data than {config.data}, on which the sampler is fitted.")
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
    assert model.run_dir is not None
    directory = save_sampler(model.run_dir, called, sampler, description)
    print(
        f"fitted {name} to {len(latents.mu):,} latents of {model.name} at {model.images_seen:,} images: {directory}\n"
        f'use it: facegen.model.load("{config.run}", sampler="{called}"), or {config.run}:{called} in eval.report'
    )


def check_fit(model: Model, dataset: Dataset) -> None:
    """Refuses what cannot be fitted.

    Raises:
        UserError: A family without an encoder and a decoder, a moved snapshot, or images of another shape.
    """
    if not {"encode", "decode"} <= model.can:
        raise UserError(f"a sampler needs an encoder and a decoder; {model.family} can {', '.join(sorted(model.can))}.")
    if model.run_dir is None:
        raise UserError("a sampler is kept in its run; give the run directory, not a snapshot that was moved.")
    image = dataset.image
    if tuple(model.image_shape) != (image.channels, image.height, image.width):
        raise UserError(
            f"{model.name} encodes images of {'x'.join(map(str, model.image_shape))} (channels x height x width) and "
            f"{dataset.address} holds {image.channels}x{image.height}x{image.width}."
        )
    check_split(dataset, "train")


def encode(model: Model, dataset: Dataset, num_images: int | None, batch_size: int) -> Latents:
    """Latents of the training split, or of its first images, in eval mode and on the model's device.

    Raises:
        UserError: A number below 1.
    """
    if num_images is not None and num_images < 1:
        raise UserError(f"num_images must be at least 1, not {num_images}.")
    available = dataset.num_samples("train")
    total = available if num_images is None else min(num_images, available)
    means, logvars = [], []
    with tqdm(total=total, desc="encoding", leave=False, disable=None, unit="image") as progress:
        for batch in evaluation_batches(dataset, "train", batch_size, limit=total):
            mu, logvar = model.posterior(to_float(batch.images), batch.labels)
            means.append(mu.float())
            logvars += [] if logvar is None else [logvar.float()]
            progress.update(len(mu))
    return Latents(torch.cat(means), torch.cat(logvars) if logvars else None)


def fit(name: str, config: Any, latents: Latents, seed: int) -> Sampler:
    """Builds a sampler and fits it, on the device of the latents; the same seed gives the same sampler.

    Raises:
        UserError: Latents to which it cannot be fitted.
    """
    if not latents.mu.isfinite().all():
        raise UserError("some latents are not finite, so that nothing can be fitted to them; the training diverged.")
    torch.manual_seed(derive_seed(seed, "sampler"))
    sampler = SAMPLERS[name].sampler_class(config, latents.mu.shape[1]).to(latents.mu.device)
    sampler.fit(latents, seed)
    return sampler.eval().requires_grad_(False)


if __name__ == "__main__":
    cli.run(main)
