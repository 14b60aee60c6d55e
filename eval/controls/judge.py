"""Judges of a degree: a regressor trained on labeled images, or a TorchScript file made elsewhere."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from eval.controls.response import Judge
from eval.latent.encode import decode_images
from facegen.degrees import degrees_of
from facegen.options import AugmentConfig
from facegen.pixels import to_float, to_uint8
from facegen.randomness import SlotRandom, derive_seed
from facegen.training.augment import augment
from shards.base.errors import UserError
from shards.base.progress import tracked
from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader, evaluation_batches
from shards.loading.units import ChosenSamples

_WIDTHS = (16, 32, 64, 64)
_LR = 3e-3
_BATCH_SIZE = 64
_AUGMENT = AugmentConfig(flip=True, brightness=0.2, contrast=0.2, saturation=0.2)
_MAX_SHIFT = 3
_MAX_BLURS = 3


class JudgeQuality(NamedTuple):
    """How well a judge reads the degree of held-out images, which bounds what its judgments of samples are worth."""

    slope: float
    correlation: float
    mean_absolute_error: float
    num_images: int


class DegreeRegressor(nn.Module):
    """A small convolutional network from images to a degree, independent of all model families."""

    def __init__(self, channels: int) -> None:
        """Builds the network for images of ``channels`` and any side of at least 16 pixels."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((channels, *_WIDTHS[:-1]), _WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        # Pooled to a grid, not to one value: the place of a feature in a face says what it is.
        grid = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*layers, *grid, nn.Linear(16 * _WIDTHS[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Degrees (N,) of images N x C x H x W in [-1, 1]."""
        return self.layers(images).squeeze(1)


def train_judge(dataset: Dataset, label: str, num_epochs: int, seed: int, device: torch.device) -> DegreeRegressor:
    """Trains a regressor on a data set's training split, augmented, with Adam and a one-cycle learning rate.

    Args:
        dataset: Data set with a training split.
        label: A degree, or a bool, which is read as -1 and 1; images without it are left out.
        num_epochs: Passes over the training split.
        seed: Seed of weights, order and augmentation.
        device: Where to train.

    Raises:
        UserError: No such label, or none known of the training images.
    """
    if not has_degrees(dataset, label):
        raise UserError(
            f"data set {dataset.address} has no degrees '{label}' to train a judge on; give a judge's file, --judge."
        )
    known = ~np.isnan(_degrees(dataset, label, "train"))
    if not known.any():
        raise UserError(f"no training image of {dataset.address} has a known '{label}'; give a judge's file, --judge.")
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "judge"))
        return _fit(dataset, label, known, num_epochs, seed, device)


def has_degrees(dataset: Dataset, label: str) -> bool:
    """Whether a data set has a label of degrees, or of yes and no."""
    return label in dataset.fields and dataset.fields[label].kind != "class"


def _degrees(dataset: Dataset, label: str, split: str) -> np.ndarray:
    return degrees_of(torch.tensor(dataset.labels(label, split))).numpy()


def _fit(
    dataset: Dataset, label: str, known: np.ndarray, num_epochs: int, seed: int, device: torch.device
) -> DegreeRegressor:
    batch_size = min(_BATCH_SIZE, int(known.sum()))
    units = None if known.all() else ChosenSamples(dataset.shard_sizes("train"), known)
    loader = TrainLoader(
        dataset, "train", global_batch_size=batch_size, seed=seed, canonical_nodes=1, fields=[label], units=units
    )
    network = DegreeRegressor(dataset.image.channels).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
    num_steps = max(1, num_epochs * loader.steps_per_epoch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=num_steps)
    batches = iter(loader)
    for _ in tracked(range(num_steps), "training the judge", num_steps, "steps"):
        position, batch = loader.samples_seen, next(batches)
        random = SlotRandom(seed, position, slice(0, batch_size), batch_size, device)
        images = disturbed(augment(batch.images.to(device), _AUGMENT, random))
        loss = (network(images) - degrees_of(batch.labels[label]).to(device)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    batches.close()  # type: ignore[attr-defined]
    return network.eval()


def disturbed(images: Tensor) -> Tensor:
    """The batch shifted by a few pixels and blurred up to ``_MAX_BLURS`` times.

    Generated faces are softer than photographs: a judge that has seen only sharp ones reads a weaker degree in them.
    """
    rows, columns = torch.randint(-_MAX_SHIFT, _MAX_SHIFT + 1, (2,)).tolist()
    return blurred(images.roll((rows, columns), (2, 3)), int(torch.randint(_MAX_BLURS + 1, ())))


def blurred(images: Tensor, times: int) -> Tensor:
    """Images N x C x H x W averaged over 3x3 pixels, repeatedly."""
    for _ in range(times):
        images = nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images


def as_judge(network: DegreeRegressor) -> Judge:
    """The regressor as a judge of uint8 images."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def judge(images: Tensor) -> np.ndarray:
        return network(to_float(images.to(device))).cpu().double().numpy()

    return judge


def load_judge(path: Path, device: torch.device) -> Judge:
    """A TorchScript judge: N x 3 x H x W, float in [0, 255], to one value an image, such as the chance of a smile.

    Raises:
        UserError: No such file, or not a TorchScript module.
    """
    try:
        # From 2.14 on torch announces the end of TorchScript; whoever gives a judge cannot change its format.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            network = torch.jit.load(path, map_location=device).eval()
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--judge {path} cannot be loaded as a TorchScript module ({reason}).") from None

    @torch.inference_mode()
    def judge(images: Tensor) -> np.ndarray:
        planes = images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)  # Gray images become color images.
        return network(planes.to(device).float()).cpu().double().flatten().numpy()

    return judge


def judge_samples(
    model: Any, judge: Judge, degrees: tuple[float, ...], num: int, seed: int, batch_size: int = 64
) -> np.ndarray:
    """Judges samples from the same latents at each degree.

    Args:
        model: A conditional model, as ``facegen.model.load`` returns it.
        judge: The judge.
        degrees: Degrees to ask for.
        num: Samples at each degree.
        seed: Seed of the samples.
        batch_size: Samples per batch.

    Returns:
        float64, degrees x num.
    """
    rows = []
    for degree in degrees:
        judged = []
        for first in range(0, num, batch_size):
            count = min(batch_size, num - first)
            labels = {model.condition: torch.full((count,), float(degree))}
            judged.append(judge(to_uint8(model.sample(count, seed=seed, first=first, labels=labels)).cpu()))
        rows.append(np.concatenate(judged))
    return np.stack(rows)


def judge_faces(model: Any, judge: Judge, degrees: tuple[float, ...], latents: np.ndarray) -> np.ndarray:
    """Judges the same encoded faces, decoded at each degree.

    Args:
        model: A conditional model, as ``facegen.model.load`` returns it.
        judge: The judge.
        degrees: Degrees to ask for.
        latents: float (N, L), such as the posterior's means of held-out faces.

    Returns:
        float64, degrees x N.
    """
    faces = (decode_images(model, latents, np.array(degree, np.float32)) for degree in degrees)
    return np.stack([judge(torch.from_numpy(images)) for images in faces])


def judge_quality(judge: Judge, dataset: Dataset, split: str, label: str, blurs: int = 0) -> JudgeQuality:
    """Measures a judge against the known degrees of a split: slope, correlation and error of its judgments.

    Args:
        judge: The judge to measure.
        dataset: Data set with true degrees.
        split: Split to judge.
        label: Label of the degree.
        blurs: How often the images are averaged over 3x3 pixels first.

    Raises:
        UserError: No degree of the split is known.
    """
    degrees = _degrees(dataset, label, split)
    known = ~np.isnan(degrees)
    if not known.any():
        raise UserError(f"no image of the {split} split of {dataset.address} has a known '{label}'; give another.")
    judged = []
    for batch in evaluation_batches(dataset, split, _BATCH_SIZE, fields=()):
        images = to_uint8(blurred(to_float(batch.images), blurs)) if blurs else batch.images
        judged.append(judge(images))
    read, degrees = np.concatenate(judged)[known], degrees[known].astype(np.float64)
    spreads = read.std() > 0 and degrees.std() > 0  # Without, nothing correlates.
    slope = np.polyfit(degrees, read, 1)[0] if spreads else 0.0
    correlation = np.corrcoef(degrees, read)[0, 1] if spreads else 0.0
    return JudgeQuality(float(slope), float(correlation), float(np.abs(read - degrees).mean()), len(degrees))
