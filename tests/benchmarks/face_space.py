"""What the face recognizer's feature space tells apart: LFW's pairs, and real faces from damaged and simple ones.

    python tests/benchmarks/face_space.py DATA PAIRS OUT [--unplaced]

DATA is packed LFW, PAIRS its pairs.txt. Distances are of the test split from as many training faces, as they are,
blurred or with noise, and from samples of a Gaussian over principal components. ``--unplaced`` leaves the faces where
the data set frames them. OUT gets face_space.json and face_space.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eval.base.columns import markdown_table
from eval.features.face_space import face_weights, load_face
from eval.features.feature_set import FeatureSet
from eval.features.image_features import image_features
from eval.features.spaces import FeatureSpace
from eval.metrics.density_coverage import density_coverage
from eval.metrics.frechet import frechet_distance
from eval.metrics.precision_recall import precision_recall
from eval.metrics.verification import Discrimination, FoldAccuracy, held_out_thresholds
from eval.stand_ins.baselines import make_baselines
from eval.stand_ins.stand_in import read_rows
from eval.verification.pair_set import batches
from eval.verification.pairs_file import find_pairs, read_pairs_file
from facegen.pixels import to_float, to_uint8
from facegen.processes.group import make_accelerator
from shards.base.files import write_json
from shards.dataset.dataset import Dataset
from shards.packing.framing import Framing

BATCH_SIZE = 64
COMPONENTS = (64, 128, 256)
BLURS = (0.5, 1.0, 2.0)
"""Standard deviations of Gaussians, in pixels."""
NOISE = 0.1
"""Standard deviation, of the range of values."""


def blurred(images: Tensor, sigma: float) -> Tensor:
    """uint8 images (N, H, W, 3) convolved with a Gaussian."""
    offsets = torch.arange(-int(4 * sigma) - 1, int(4 * sigma) + 2, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    margin = kernel.shape[-1] // 2
    pixels = functional.pad(to_float(images), (margin,) * 4, mode="reflect")
    return to_uint8(functional.conv2d(functional.conv2d(pixels, kernel, groups=3), kernel.mT, groups=3))


def noisy(images: Tensor) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    return to_uint8(to_float(images) + 2 * NOISE * noise)


def image_sets(dataset: Dataset, num: int) -> Iterator[tuple[str, Tensor]]:
    """uint8 images (num, H, W, 3), by name."""
    real, *eigenfaces = make_baselines(
        ["real", "eigenfaces"], COMPONENTS, dataset, "train", make_accelerator(force_cpu=True)
    )
    faces = to_uint8(real.sample(num))
    yield "training faces", faces
    for linear in eigenfaces:
        yield linear.name, to_uint8(linear.sample(num))
    for sigma in BLURS:
        yield f"training faces, blurred by {sigma:g} pixels", blurred(faces, sigma)
    yield f"training faces with {NOISE:.0%} noise", noisy(faces)


def features(space: FeatureSpace, images: Tensor, what: str) -> FeatureSet:
    found = FeatureSet.empty(space.dim)
    parts = (part.numpy() for part in images.split(BATCH_SIZE))
    found.update(np.arange(len(images)), image_features(space, parts, len(images), what))
    return found


def verification(space: FeatureSpace, dataset: Dataset, pairs_file: Path) -> dict[str, float]:
    """Accuracy over LFW's folds and AUC of the distance between two faces."""
    pairs = find_pairs(read_pairs_file(pairs_file), dataset, ("train", "val", "test")).pairs
    parts = (pairs.images(dataset, chosen) for chosen in batches(pairs.num_images, BATCH_SIZE))
    found = image_features(space, parts, pairs.num_images, "pairs")
    scores = -np.linalg.norm(found[pairs.pairs[:, 0]] - found[pairs.pairs[:, 1]], axis=1).astype(np.float64)
    is_right = (scores >= held_out_thresholds(scores, pairs.same, pairs.fold)) == (pairs.same == 1)
    accuracy, discrimination = FoldAccuracy.of(is_right, pairs.fold), Discrimination.of(scores, pairs.same)
    return {"accuracy": accuracy.mean, "standard_error": accuracy.standard_error} | asdict(discrimination)


def main() -> None:
    data, pairs_file, out = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)
    dataset = Dataset(str(data))
    framing = None if "--unplaced" in sys.argv else Framing.of(dataset.manifest)
    space = load_face(face_weights(), torch.device("cpu"), framing)
    num = dataset.num_samples("test")
    reference = features(space, read_rows(dataset, "test", np.arange(num)), "test")
    results: dict[str, Any] = {"preprocessing": space.preprocessing, "distances": {}}
    for what, images in image_sets(dataset, num):
        ours = features(space, images, what)
        pair = ours.bank.ordered(), reference.bank.ordered()
        found = {"frechet": frechet_distance(ours.statistics, reference.statistics)}
        found |= precision_recall(*pair)._asdict() | density_coverage(*pair)._asdict()
        results["distances"][what] = found
        print(what, found, flush=True)
    results["pairs"] = verification(space, dataset, pairs_file)
    print(results["pairs"])
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "face_space.json", results)
    rows = [[what, *(f"{value:.4f}" for value in found.values())] for what, found in results["distances"].items()]
    (out / "face_space.md").write_text(markdown_table(["images", *found], rows))


if __name__ == "__main__":
    main()
