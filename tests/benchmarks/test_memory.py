"""Memory that must stay flat, or be measured right, beside the size of what passes through it (Linux)."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from PIL import Image

from eval.latent.editing.uploads import Uploads
from eval.reports.stages import Stages, forget_peak, peak_mib
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
