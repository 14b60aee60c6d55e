"""Memory that must stay flat, or be measured right, beside the size of what passes through it (Linux)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eval.features.row_bank import MAX_FEATURES, RowBank
from eval.latent import encode
from eval.latent.attribute_vectors import fit_attributes
from eval.latent.editing.uploads import Uploads
from eval.latent.pca import fit_pca
from eval.reports.stages import Stages, forget_peak, peak_mib
from shards.loading.batch import Batch
from studio_hostile import attack, saved
from studio_process import studio_process
from tiny_runs import untrained_run

MIB = 2**20
ROUNDS = 3


def test_a_stage_of_a_report_measures_its_own_peak(bound) -> None:
    stages = Stages(quiet=True)
    with stages.stage("small"):
        pass
    with stages.stage("large"):
        # Not from malloc, which may have as much at hand.
        ballast = np.frombuffer(mmap.mmap(-1, 200 * MIB), np.uint8)
        ballast[:] = 1
        del ballast
    small, large = stages.done
    ratio = (large.peak_rss_mib - small.peak_rss_mib) / 200
    bound("a stage's peak in units of what it allocated", ratio, at_most=2)
    bound("what it allocated in units of the stage's peak", 1 / ratio, at_most=1.05)


def test_uploads_keep_no_decoded_photo(bound) -> None:
    uploads = Uploads(capacity=4)
    side = 1500
    large = saved(Image.effect_noise((side, side), 60).convert("RGB"), "JPEG")
    for _ in range(3):
        uploads.add(large)
    forget_peak()
    before = peak_mib()
    for _ in range(12):
        uploads.add(large)
    bound("memory of twelve uploads, in decoded photos", (peak_mib() - before) * MIB / (3 * side**2), at_most=2.1)


def test_a_studio_under_attack_stays_as_large_as_it_was(bound, tiny_dataset: Path, tmp_path: Path) -> None:
    run, sizes = untrained_run(tmp_path / "vae", tiny_dataset), []
    with studio_process(str(run), "--data", str(tiny_dataset), FACEGEN_CACHE=str(tmp_path / "cache")) as started:
        for _ in range(ROUNDS):
            attack(started.address)
            sizes.append(started.resident_mib())
    print(f"resident after each round: {', '.join(f'{size:.0f}' for size in sizes)} MiB")
    bound("a studio after three rounds of hostile files and calls, in its size after one", sizes[-1] / sizes[0], 1.06)


LATENT_SIZE = 256


def encode_many(num_images: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Latents of a split that has no images: its rows decide them."""

    def batches(*_: Any, **__: Any) -> Iterator[Batch]:
        for first in range(0, num_images, 1_000):
            rows = torch.arange(first, min(first + 1_000, num_images))
            yield Batch(rows[:, None], {}, rows)

    def latents(rows: np.ndarray, _: Any) -> np.ndarray:
        return np.random.default_rng(int(rows[0, 0])).standard_normal((len(rows), LATENT_SIZE), np.float32)

    monkeypatch.setattr(encode, "evaluation_batches", batches)
    monkeypatch.setattr(encode, "split_degrees", lambda *_: np.zeros(num_images))
    monkeypatch.setattr(encode, "condition_labels", lambda *_: None)
    monkeypatch.setattr(encode.Origin, "of", lambda *_: SimpleNamespace(snapshot="", fingerprint="", split=""))
    dataset: Any = SimpleNamespace(num_samples=lambda split: num_images)
    return encode.encode_split(SimpleNamespace(encode=latents, latent_size=LATENT_SIZE), dataset, "train")


def test_latents_of_large_splits_stay_on_disk(bound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path))
    grown = []
    for num_images in (100_000, 400_000):
        forget_peak()
        before = peak_mib()
        latents = encode_many(num_images, monkeypatch)
        present = np.arange(num_images) % 2 == 0
        fit_attributes(latents, {"even": (present, ~present)})
        fit_pca(latents)
        grown.append(peak_mib() - before)
    print(f"grown by {grown[0]:.0f} and {grown[1]:.0f} MiB")
    bound("memory of latents that are encoded and fitted, in their size", grown[1] * MIB / latents.nbytes, at_most=0.4)
    bound("the same of four times as many latents", grown[1] / max(grown[0], 100), at_most=1.2)


def test_features_of_many_sets_stay_on_disk(bound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path))
    size, grown = 2048, []
    for num_sets in (3, 9):
        forget_peak()
        before = peak_mib()
        banks = [RowBank(MAX_FEATURES) for _ in range(num_sets)]
        for bank in banks:
            for rows in np.array_split(np.arange(MAX_FEATURES), 50):
                bank.update(rows, np.ones((len(rows), size), np.float32))
        assert all(len(bank.ordered()) == MAX_FEATURES for bank in banks)
        grown.append(peak_mib() - before)
    print(f"grown by {grown[0]:.0f} and {grown[1]:.0f} MiB")
    bound("memory of nine sets of features, in their size", grown[1] * MIB / (9 * MAX_FEATURES * size * 4), 0.3)
    bound("the same of three times as many sets", grown[1] / max(grown[0], 100), at_most=1.2)
