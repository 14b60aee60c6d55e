"""Trained models for inference: ``load(run)``, then ``encode``, ``decode``, ``reconstruct``, ``sample``, ``verify``.

Images have one of two forms, told apart by their type:

* numpy uint8, N x H x W x C in [0, 255], as image files hold them;
* torch float, N x C x H x W in [-1, 1], as networks see them.

Latents are float, N x L. Results belong to the library of the input, numpy or torch. Everything runs in eval mode and
without gradients.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from facegen.degrees import given_condition
from facegen.devices import check_device
from facegen.families import Family
from facegen.latents.prior_note import advised_fit, prior_note
from facegen.pixels import images_as_floats, to_uint8
from facegen.randomness import numbered_noise
from facegen.runs.run_name import parse_run
from facegen.runs.snapshot import Description, find_snapshot, run_of, weights_file
from facegen.samplers.base import Sampler
from facegen.samplers.fitted import fitted_samplers, load_sampler
from facegen.samplers.prior import PriorSampler
from facegen.sharing.repository import write_repository
from facegen.trained import load_family
from shards.base.errors import Note, UserError

Array = TypeVar("Array", np.ndarray, Tensor)
Labels = Mapping[str, Tensor | np.ndarray | Sequence[float]] | None


def load(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    weights: Literal["ema", "raw"] | None = None,
    sampler: str | None = None,
) -> Model:
    """Loads a trained model.

    Args:
        path: A run directory (for its newest snapshot, or its best one after early stopping), a snapshot directory, a
            folder that ``Model.save_pretrained`` wrote, or ``hub:USER/NAME@REVISION`` on the Hugging Face Hub.
            ``RUN:SAMPLER`` names a fitted sampler, too, as in every command.
        device: Device of the networks.
        weights: The moving average (``ema``) or the trained weights (``raw``); None takes the average if there is one.
        sampler: Name of a sampler fitted to this run, for ``Model.sample``; None takes that of ``path``, or else the
            family's prior.

    Returns:
        The model, in eval mode.

    Raises:
        UserError: There is no complete snapshot or no such repository, it lacks the weights, the sampler was not
            fitted to them, or this machine lacks the device.
    """
    check_device(device)
    run, named = parse_run(path)
    if named and sampler:
        raise UserError(f"{path} and {sampler} name two samplers; name one.")
    snapshot = find_snapshot(run)
    family, description, chosen = load_family(snapshot, weights)
    model = Model(family.to(device).eval(), description, snapshot, chosen)
    chosen_sampler = sampler or named
    return model if chosen_sampler is None else model.with_sampler(chosen_sampler)


class Model:
    """A trained model, as ``load`` returns it.

    ``labels``, where a method takes them, are labels by name, N values each. Only conditional families read one,
    ``condition``; without ``labels`` its degrees are unknown. Labels of images may be those of a whole batch, with the
    condition among them; labels to generate by are the condition alone. See the module for the two forms of images.

    Attributes:
        name: Name of the run.
        family: Name of the family.
        can: Abilities: ``encode``, ``posterior``, ``decode``, ``sample``, ``verify``.
        sampler: Name of the fitted sampler that ``sample`` draws from; None for the family's prior.
        prior_note: A sentence where ``sample`` draws from a prior that is unlikely to give faces; else empty.
        image_shape: Channels, height, width.
        latent_size: Number of latent dims, L; None without latents.
        condition: Name of the label that conditions generation; None without one.
        condition_range: Smallest and largest degree of that label in training; None without a condition.
        decoder_variance: Variance of the Gaussian decoder whose ELBO was trained (``beta_eff``), of pixels in [-1, 1];
            None without a likelihood.
        weights: ``ema`` or ``raw``.
        snapshot: Directory of the snapshot.
        images_seen: Training images seen, with repeats.
        step: Optimizer steps.
        config: The full training config, as nested dicts.
        dataset_fingerprint: Fingerprint of the training data.
        framing: How the training data frame faces; None where that is not known.
        num_parameters: Number of parameters.
        snapshot_bytes: Size of the weights file.
        run_dir: Directory of the run, or the repository; None for a snapshot that was moved out of its run.
        network: The family itself.
        description: The content of ``snapshot.json``.
    """

    def __init__(self, network: Family, description: Description, snapshot: Path, weights: str) -> None:
        """Use ``load``."""
        self.network = network
        self.description = description
        self.name = description.name
        self.family = description.family
        self.can = network.can
        self.image_shape = network.image
        self.latent_size = network.latent_size
        self.sampler: str | None = None
        self._sampler: Sampler | None = None if self.latent_size is None else PriorSampler(network)
        self.condition = network.condition
        self.condition_range = network.condition_range
        self.decoder_variance = network.decoder_variance
        self.weights = weights
        self.images_seen = description.images_seen
        self.step = description.step
        self.config: dict[str, Any] = description.config
        self.dataset_fingerprint = description.dataset_fingerprint
        self.framing = description.framing
        self.num_parameters = sum(parameter.numel() for parameter in network.parameters())
        self.snapshot = snapshot
        self.snapshot_bytes = weights_file(snapshot, weights).stat().st_size
        self.run_dir = run_of(snapshot)
        draws_prior = "sample" in self.can and not network.prior_is_learned
        self.prior_note = prior_note(self.name, self.run_dir, self.images_seen) if self.run_dir and draws_prior else ""

    @property
    def teacher(self) -> str:
        """Kind of the frozen feature net in the model's loss; empty without one."""
        options = self.config.get("model", {})
        options = options.get("autoencoder_config", {}).get("model", options)
        return options["features"]["kind"] if options.get("perceptual_weight") and "features" in options else ""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def posterior(self, images: Array, labels: Labels = None) -> tuple[Array, Array | None]:
        """Encodes images to the distribution of their latents.

        Args:
            images: N images in either form.
            labels: As for the class.

        Returns:
            Mean and log variance of the latents, each float32 N x L; the latter is None for a deterministic encoder.

        Raises:
            UserError: The family cannot encode, images or labels of another shape, or labels without the condition.
        """
        self._require("encode")
        mu, logvar = self.network.posterior(self._input(images), self._condition(labels, len(images), of_images=True))
        return _like(mu, images), None if logvar is None else _like(logvar, images)

    def encode(self, images: Array, labels: Labels = None) -> Array:
        """Encodes images to latents: the posterior's mean, never a sample; otherwise as ``posterior``."""
        return self.posterior(images, labels)[0]

    @torch.inference_mode()
    def decode(self, latents: Any, labels: Labels = None) -> Any:
        """Decodes latents to images.

        Args:
            latents: Float, N x L, numpy or torch.
            labels: As for the class: ``{condition: degrees}``.

        Returns:
            N images in the form of the latents' library.

        Raises:
            UserError: The family cannot decode, latents or labels of another shape, or labels beside the condition.
        """
        self._require("decode")
        tensor = torch.as_tensor(latents, dtype=torch.float32, device=self.device)
        if tensor.ndim != 2 or tensor.shape[1] != self.latent_size:
            raise UserError(f"{self.name} decodes latents of N x {self.latent_size}, not of {list(tensor.shape)}.")
        images = self.network.decode(tensor, self._condition(labels, len(tensor)))
        return to_uint8(images).cpu().numpy() if isinstance(latents, np.ndarray) else images

    @torch.inference_mode()
    def reconstruct(self, images: Any, labels: Labels = None) -> Any:
        """Encodes images to the posterior's mean and decodes it; N images in either form, returned in the same form.

        Raises:
            UserError: As ``posterior`` and ``decode``.
        """
        self._require("encode")
        self._require("decode")
        known = self._condition(labels, len(images), of_images=True)
        mu, _ = self.network.posterior(self._input(images), known)
        reconstructions = self.network.decode(mu, known)
        return to_uint8(reconstructions).cpu().numpy() if isinstance(images, np.ndarray) else reconstructions

    @torch.inference_mode()
    def verify(self, images_a: Array, images_b: Array) -> Array:
        """Compares faces pair by pair.

        Args:
            images_a: N images in either form.
            images_b: N images in the same form, the partners.

        Returns:
            Probabilities N, in [0, 1], that both faces of a pair are the same person.

        Raises:
            UserError: The family cannot verify, or the numbers or shapes of images differ.
        """
        self._require("verify")
        if len(images_a) != len(images_b):
            raise UserError(
                f"faces are verified in pairs: give equally many of both, not {len(images_a)} and {len(images_b)}."
            )
        return _like(self.network.verify(self._input(images_a), self._input(images_b)), images_a)

    @torch.inference_mode()
    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Labels = None, first: int = 0) -> Tensor:
        """Generates images from the prior, or from the loaded sampler.

        Args:
            num: Number of samples, at least 1.
            seed: Sample ``i`` of a seed is always the same face, for any ``num`` and ``first``.
            std: Standard deviation of the noise behind the latents; 1 is the prior, or the sampler as fitted.
            labels: ``{condition: degrees}`` for a conditional family: num floats, NaN for an unknown degree. Degrees
                outside ``condition_range`` extrapolate. Without it, all are unknown.
            first: Number of the first sample.

        Returns:
            float, num x C x H x W in [-1, 1]; ``facegen.pixels.to_uint8`` converts them to bytes.

        Raises:
            UserError: The family cannot sample and no sampler was loaded, ``num`` is below 1, or labels beside the
                condition.
        """
        if self.prior_note:
            warnings.warn(self.prior_note, Note, stacklevel=2)
        return self.decode(self.sample_latents(num, seed=seed, std=std, first=first), labels)

    @torch.inference_mode()
    def sample_latents(self, num: int, *, seed: int = 0, std: float = 1.0, first: int = 0) -> Tensor:
        """The latents that ``sample`` decodes, float, num x L; arguments as there."""
        self._require("sample")
        if num < 1:
            raise UserError(f"the number of samples must be at least 1, not {num}.")
        if first < 0 or not 0 <= std < math.inf:
            raise UserError(f"first and std must be 0 or more, not {first} and {std}.")
        assert self._sampler is not None
        return self._sampler(numbered_noise(self._sampler.noise_size, num, seed, first).to(self.device), std)

    def prior(self, num: int, *, seed: int = 0, first: int = 0) -> Tensor:
        """Standard normal latents, num x L, of samples ``first`` to ``first + num - 1``."""
        assert self.latent_size is not None
        return numbered_noise(self.latent_size, num, seed, first).to(self.device)

    def use_sampler(self, name: str, sampler: Sampler) -> None:
        """Makes ``sample`` draw from a fitted sampler, with which families without a prior can sample too."""
        self.sampler, self._sampler, self.prior_note = name, sampler.to(self.device), ""
        self.can = self.can | {"sample"}

    def with_sampler(self, name: str) -> Model:
        """A copy that shares the networks and samples with a sampler fitted to this run.

        Raises:
            UserError: The snapshot is not in a run, or the sampler was not fitted to these weights.
        """
        if self.run_dir is None:
            raise UserError(
                f"{self.snapshot} is not in a run, and samplers are stored in runs; give the run directory."
            )
        model = copy(self)
        model.use_sampler(name, load_sampler(self.run_dir, name, self.snapshot, self.weights))
        return model

    @property
    def samplers(self) -> list[str]:
        """Names of the samplers that ``with_sampler`` takes."""
        return [] if self.run_dir is None else fitted_samplers(self.run_dir, self.snapshot, self.weights)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes the model and its samplers as a repository, for ``load``; ``eval.push`` pushes it to the Hub.

        Args:
            folder: New, empty, or with an earlier repository.

        Returns:
            The folder, with ``config.json`` and ``model.safetensors``.

        Raises:
            UserError: Other files are there, or it cannot be written.
        """
        return write_repository(Path(folder), self.description, self.snapshot, self.weights, self.samplers)

    def _require(self, ability: str) -> None:
        if ability not in self.can:
            raise UserError(self.lacking(ability))

    def lacking(self, *abilities: str) -> str:
        """A sentence that says why the model lacks abilities, and how it samples where that is one of them."""
        lacks = f"models of the family {self.family} cannot {' and '.join(abilities)}"
        can = f"they can {', '.join(sorted(self.can))}"
        if "sample" in abilities and {"encode", "decode"} <= self.can and self.run_dir is not None:
            fitted = f"give {self.run_dir}:{self.samplers[0]}" if self.samplers else ""
            fit = f"python -m facegen.fit_sampler {advised_fit(self.run_dir)}"
            can += f", and sample with a fitted sampler: {fitted or fit}"
        return f"{lacks}; {can}."

    def _input(self, images: np.ndarray | Tensor) -> Tensor:
        floats = images_as_floats(images, self.name, self.image_shape)
        return floats.to(self.device, memory_format=torch.channels_last)

    def _condition(self, labels: Labels, num: int, of_images: bool = False) -> Mapping[str, Tensor]:
        """The condition among labels, on the device; those of images may hold others."""
        found = given_condition(self.name, self.condition, labels or {}, num, of_images)
        return {name: degrees.to(self.device) for name, degrees in found.items()}


def _like(values: Tensor, images: np.ndarray | Tensor) -> Any:
    return values.cpu().numpy() if isinstance(images, np.ndarray) else values
