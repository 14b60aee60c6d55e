"""FID and KID equal torch-fidelity's on the same PNG folders, with the same file of Inception weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from eval.features.spaces import load_inception
from eval.metrics.frechet import FeatureStatistics, frechet_distance
from eval.metrics.kernel import kernel_distance

NUM_IMAGES = 14


def write_weights(path: Path) -> None:
    """Random Inception weights in torch-fidelity's layout, scaled so that features keep a variance of about one."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args, **kwargs):  # The constructor would load a file that is not there.
            return None

    empty = path.with_suffix(".empty")
    torch.save({}, empty)
    torch.manual_seed(0)
    network = Unloaded("random", ["2048"], str(empty))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)


def write_pngs(folder: Path, seed: int, blur: float) -> torch.Tensor:
    folder.mkdir()
    random = np.random.default_rng(seed)
    images = []
    for position in range(NUM_IMAGES):
        noise = Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        image = noise.filter(ImageFilter.GaussianBlur(blur))
        image.save(folder / f"{position:03d}.png")
        images.append(torch.from_numpy(np.array(image)))
    return torch.stack(images)


@pytest.mark.slow
def test_fid_and_kid_equal_torch_fidelity(tmp_path):
    torch_fidelity = pytest.importorskip("torch_fidelity")
    weights = tmp_path / "weights.pth"
    write_weights(weights)
    first = write_pngs(tmp_path / "first", seed=0, blur=1)
    second = write_pngs(tmp_path / "second", seed=1, blur=3)

    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "first"),
        input2=str(tmp_path / "second"),
        fid=True,
        kid=True,
        kid_subsets=5,
        kid_subset_size=10,
        cuda=False,
        cache=False,
        verbose=False,
        batch_size=7,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(weights),
    )
    space = load_inception(weights, torch.device("cpu"))
    features = [space(first), space(second)]
    statistics = [FeatureStatistics.empty(space.dim) for _ in features]
    for one, values in zip(statistics, features, strict=True):
        one.update(values)
    fid = frechet_distance(*statistics)
    kid = kernel_distance(*features, num_subsets=5, max_subset_size=10)
    assert fid > 0.1, "the sets have to differ, or the comparison would say nothing"
    assert fid == pytest.approx(theirs["frechet_inception_distance"], abs=1e-3)
    assert kid.mean == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-3)
    assert kid.std == pytest.approx(theirs["kernel_inception_distance_std"], abs=1e-3)
    print(f"FID {fid:.6f} and {theirs['frechet_inception_distance']:.6f}, KID {kid.mean:.6f}")
