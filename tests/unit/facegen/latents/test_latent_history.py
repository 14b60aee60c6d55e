"""The file of latent usage, the cells of its heatmap, and its two drawings."""

from __future__ import annotations

import itertools
import re
import warnings
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from eval.drawing.heatmap import latent_heatmap
from facegen.latents.latent_heatmap import heat_of, heatmap_picture, left_out, shown, warmth
from facegen.latents.latent_history import (
    LATENT_USAGE_FILE,
    LatentHistory,
    continue_latent_history,
    read_latent_history,
    write_latent_history,
)
from facegen.latents.latent_stats import LatentStats


def history(num_epochs: int = 3, latent_size: int = 4, has_posterior: bool = True) -> LatentHistory:
    """Variances that grow with the number of the dim, and tenfold with each epoch."""
    shape = (num_epochs, latent_size)
    powers = np.arange(num_epochs)[:, None] - num_epochs + 1 - (latent_size - 1 - np.arange(latent_size)) / 2
    return LatentHistory(
        split="val",
        epochs=np.arange(1, num_epochs + 1, dtype=np.float32),
        images_seen=100 * np.arange(1, num_epochs + 1),
        count=np.full(num_epochs, 20),
        mean=np.zeros(shape, np.float32),
        variance=(10.0 ** np.maximum(powers, -30)).astype(np.float32),
        kl=np.ones(shape, np.float32) if has_posterior else None,
    )


def assert_equal(first: LatentHistory | None, second: LatentHistory) -> None:
    assert first is not None
    assert first.split == second.split
    assert first.arrays().keys() == second.arrays().keys()
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], name)


# The file.


@pytest.mark.parametrize("has_posterior", [True, False])
def test_epochs_accumulate_in_the_file(has_posterior: bool, tmp_path: Path) -> None:
    stats = LatentStats.empty(3)
    mu = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    stats.update(mu, torch.zeros(10, 3) if has_posterior else None)
    first = LatentHistory.of_epoch("test", 1, 96, stats)
    stats.update(2 * mu, torch.zeros(10, 3) if has_posterior else None)
    both = first.then(LatentHistory.of_epoch("test", 1.5, 144, stats))
    write_latent_history(tmp_path, both)
    assert_equal(read_latent_history(tmp_path), both)
    assert_equal(read_latent_history(str(tmp_path)), both)
    assert [path.name for path in tmp_path.iterdir()] == [LATENT_USAGE_FILE]
    arrays = load_file(tmp_path / LATENT_USAGE_FILE)
    assert set(arrays) == {"epochs", "images_seen", "count", "mean", "variance", *(["kl"] if has_posterior else [])}
    assert (arrays["epochs"].tolist(), arrays["images_seen"].tolist(), arrays["count"].tolist()) == (
        [1, 1.5],
        [96, 144],
        [10, 20],
    )
    assert {arrays[name].dtype for name in ("mean", "variance")} == {np.dtype(np.float32)}
    np.testing.assert_allclose(arrays["variance"][0], np.var(mu.numpy(), axis=0), rtol=1e-5)


@pytest.mark.parametrize(("images_seen", "num_kept"), [(0, 0), (199, 1), (200, 2), (1000, 3)])
def test_epochs_after_the_checkpoint_are_dropped(images_seen: int, num_kept: int, tmp_path: Path) -> None:
    whole = history()
    write_latent_history(tmp_path, whole)
    kept = continue_latent_history(tmp_path, images_seen)
    if num_kept:
        assert_equal(kept, history(num_epochs=3).until(100 * num_kept) or whole)
        assert_equal(read_latent_history(tmp_path), kept or whole)
    else:
        assert (kept, list(tmp_path.iterdir())) == (None, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def without_split(path: Path) -> None:
    save_file(history().arrays(), path)


def of_two_histories(path: Path) -> None:
    save_file(history().arrays() | {"mean": np.zeros((2, 4), np.float32)}, path, {"split": "val"})


def with_a_name_too_many(path: Path) -> None:
    save_file(history().arrays() | {"median": np.zeros((3, 4), np.float32)}, path, {"split": "val"})


@pytest.mark.parametrize("damage", [cut, without_split, of_two_histories, with_a_name_too_many, Path.write_text])
def test_a_damaged_file_gives_one_warning(damage, tmp_path: Path) -> None:
    write_latent_history(tmp_path, history())
    path = tmp_path / LATENT_USAGE_FILE
    damage(path, "") if damage is Path.write_text else damage(path)
    with pytest.warns(UserWarning, match=r"latent_usage.safetensors is damaged \(.*\) and is ignored\.$") as caught:
        assert latent_heatmap(tmp_path) is None
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="is damaged"):
        assert continue_latent_history(tmp_path, 1000) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert continue_latent_history(tmp_path, 1000) is None  # The damaged file is gone.


# The cells.


@pytest.mark.parametrize("num", [1, 50, 128, 200])
def test_few_dims_or_epochs_are_all_shown(num: int) -> None:
    assert shown(num).tolist() == list(range(num))


@pytest.mark.parametrize("num", [201, 256, 1000, 2100, 2101, 4096, 100_000])
def test_of_many_dims_or_epochs_the_ends_and_every_nth_between_are_shown(num: int) -> None:
    positions = shown(num)
    assert len(positions) <= 200
    assert positions[:50].tolist() == list(range(50))
    assert positions[-50:].tolist() == list(range(num - 50, num))
    between = positions[50:-50]
    assert set(np.diff(between)) == {20 if num <= 2100 else -(-(num - 100) // 100)}
    assert np.diff(positions).min() > 0
    if num <= 2100:
        assert np.all((between + 1) % 20 == 0)


def test_warmth_is_logarithmic() -> None:
    values = np.array([0, 1e-5, 1e-4, 1e-2, 1.0, 50, np.inf, np.nan])
    np.testing.assert_allclose(warmth(values, 1.0), [0, 0, 0, 0.5, 1, 1, 1, 0], atol=1e-12)


def test_dims_are_in_order_of_their_last_variance() -> None:
    heat = heat_of(history())
    assert np.all(np.diff(heat.variance[:, -1]) < 0)
    assert heat.variance[0].tolist() == history().variance[:, 3].tolist()
    assert heat.highest == 1
    np.testing.assert_array_equal(heat.is_active[0], [False, True, True])


# The drawings.


@pytest.mark.parametrize(("num_epochs", "latent_size"), [(1, 1), (3, 4), (40, 128), (300, 4096)])
def test_the_picture_is_brighter_where_mu_varies_more(num_epochs: int, latent_size: int) -> None:
    picture = heatmap_picture(history(num_epochs, latent_size))
    assert (picture.dtype, picture.ndim, picture.shape[2]) == (torch.uint8, 3, 3)
    assert picture.shape[0] < 1400 and picture.shape[1] < 1400
    heat = heat_of(history(num_epochs, latent_size))
    cell_width = max(2, min(80, 960 // heat.variance.shape[1]))
    right = 92 + cell_width * heat.variance.shape[1]
    assert picture[97, right - 2].tolist() == [253, 231, 37]  # The most active dim at the end.
    if latent_size > 100:
        assert picture[-86, 93].tolist() == [68, 1, 84]  # A dead one at the start.
    # Text right of "epoch" says what the lines leave out.
    assert bool((picture[-42:, 300:] < 128).any()) == bool(left_out(heat)) == (num_epochs == 300)


@pytest.mark.parametrize(("num_epochs", "latent_size"), [(1, 1), (3, 4), (30, 128), (300, 4096)])
def test_the_chart_has_every_cell_once(num_epochs: int, latent_size: int, tmp_path: Path) -> None:
    write_latent_history(tmp_path, history(num_epochs, latent_size))
    chart = latent_heatmap(tmp_path)
    assert chart is not None and len(chart) < 300_000
    (cells,) = [group for group in ElementTree.fromstring(chart).findall("{*}g") if "transform" in group.attrib]
    heat = heat_of(history(num_epochs, latent_size))
    times_drawn = np.zeros(heat.variance.shape, int)
    is_colored = np.zeros(heat.variance.shape, bool)
    for path in cells:
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)", path.attrib["d"]):
            cell = int(row), slice(int(column), int(column) + int(length))
            times_drawn[cell] += 1
            is_colored[cell] = path.attrib["stroke"] == "var(--c0)"
    assert np.all(times_drawn == 1)
    np.testing.assert_array_equal(is_colored, heat.is_active)
    assert "mu of 20 images of val" in chart
    assert ("between the lines: one dim of 40 and one epoch of 20" in chart) == (num_epochs == 300)


@pytest.mark.parametrize("factor", [1.0, 100.0, 1e12])
def test_the_words_of_the_chart_do_not_collide(factor: float, tmp_path: Path) -> None:
    told = history(300, 4096)
    write_latent_history(tmp_path, replace(told, variance=told.variance * np.float32(factor)))
    chart = latent_heatmap(tmp_path)
    assert chart is not None
    boxes = []
    for text in ElementTree.fromstring(chart).iter("{http://www.w3.org/2000/svg}text"):
        x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 6.6 * len(text.text or "")
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
        assert left >= 0 and left + width <= 910
        boxes.append((left, y - 10, left + width, y + 2))
    for first, second in itertools.combinations(boxes, 2):
        assert first[0] >= second[2] or second[0] >= first[2] or first[1] >= second[3] or second[1] >= first[3]


def test_a_run_without_a_history_has_no_chart(tmp_path: Path) -> None:
    assert latent_heatmap(tmp_path) is None
