"""LPIPS against the package of its authors, with random weights of AlexNet; sums, and sentences where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import eval
from eval.features import known_weights
from eval.metrics.lpips import ALEXNET_URL, LpipsSums, alexnet_path, load_lpips
from eval.metrics.reconstruction import SSIM_WINDOW
from facegen.perceptual.torchvision_ops import make_torchvision_importable
from shards.base.errors import UserError
from shards.pack import main as pack
from tiny_runs import untrained_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def alexnet() -> dict[str, Tensor]:
    """Random weights of AlexNet; those that LPIPS does not use take no memory."""
    make_torchvision_importable()
    from torchvision.models import alexnet

    with torch.device("meta"):
        layout = alexnet().state_dict()
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(tensor.shape, generator=generator) / max(1, tensor[0].numel()) ** 0.5
        if name.startswith("features.")
        else torch.zeros(1).expand(tensor.shape)
        for name, tensor in layout.items()
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where AlexNet's weights belong, an empty place."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    path = alexnet_path()
    path.parent.mkdir()
    load_lpips.cache_clear()
    yield path
    load_lpips.cache_clear()


@pytest.fixture
def weights(cache: Path, alexnet: dict[str, Tensor]) -> Path:
    torch.save(alexnet, cache)
    return cache


def images(num: int, seed: int, channels: int = 3, side: int = 48) -> Tensor:
    return 2 * torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.usefixtures("weights")
def test_distances_are_those_of_the_authors_package(alexnet: dict[str, Tensor]) -> None:
    make_torchvision_importable()
    lpips = pytest.importorskip("lpips", reason="lpips, an optional package, is not installed")
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    own = {name: name.rsplit(".", 2)[1:] for name in theirs.net.state_dict()}
    theirs.net.load_state_dict({name: alexnet[f"features.{layer}.{kind}"] for name, (layer, kind) in own.items()})
    first, second = images(3, 0), images(3, 1)
    with torch.inference_mode():
        expected, found = theirs(first, second).flatten(), load_lpips(CPU)(first, second)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert expected.min() > 0.01


@pytest.mark.usefixtures("weights")
def test_the_mean_is_of_single_images_over_all_ranks() -> None:
    first, second = images(5, 0), images(5, 1) * 1.5
    one, parts = LpipsSums.empty(CPU, 48), [LpipsSums.empty(CPU, 48) for _ in range(2)]
    one.update(first, second)
    for part, rows in zip(parts, (slice(0, 2), slice(2, 5)), strict=True):
        part.update(first[rows], second[rows])
    both = parts[0].merge(parts[1])
    assert (both.count, both.total) == (5, pytest.approx(one.total, rel=1e-6))
    with torch.inference_mode():
        assert one.total == pytest.approx(float(load_lpips(CPU)(first, second.clamp(-1, 1)).sum()), rel=1e-6)
    gray = LpipsSums.empty(CPU, 48)
    gray.update(images(2, 0, channels=1), images(2, 0, channels=1))
    assert gray.total == 0
    assert parts[0].merge(LpipsSums("no weights")).reason == "no weights"


def test_reasons_instead_of_a_number(cache: Path) -> None:
    assert LpipsSums.empty(CPU, SSIM_WINDOW).reason == "images are smaller than 31 pixels"
    assert "python -m eval.weights --fetch lpips" in LpipsSums.empty(CPU, 64).reason
    for content in ({"layer": torch.zeros(3)}, "text"):
        torch.save(content, cache)
        assert f"{cache} does not hold" in LpipsSums.empty(CPU, 64).reason


def test_only_the_published_file_is_taken(cache: Path, tmp_path: Path) -> None:
    make_torchvision_importable()
    from torchvision.models import AlexNet_Weights

    assert AlexNet_Weights.DEFAULT.url == ALEXNET_URL
    entry = known_weights.find_weights("lpips")
    assert (entry.path, entry.sha256) == (cache, "7be5be79")
    (tmp_path / "given.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="has the sha256"):
        known_weights.take(entry, tmp_path / "given.pth")


def test_a_report_has_the_number_or_the_reason(tmp_path: Path, cache: Path, alexnet: dict[str, Tensor]) -> None:
    data = tmp_path / "data"
    pack(["synthetic", str(data), "--num", "30", "--size", "32", "--val_fraction", "0", "--test_fraction", "0.3"])
    run = untrained_run(tmp_path / "run", data)
    options = {"only": ["lpips"], "device": "cpu", "baselines": ["mean_face"]}
    absent = eval.report(run, data, tmp_path / "out", **options)
    assert "--fetch lpips" in absent.runs[0].measures["lpips"].reason
    torch.save(alexnet, cache)
    present = eval.report(run, data, tmp_path / "out", **options)
    for column in (*present.runs, *present.baselines):
        value = column.measures["lpips"].value
        assert value is not None and value > 0
