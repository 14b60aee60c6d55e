"""The files and the progress line of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eval.base.run_warnings import run_warnings
from eval.drawing import charts
from facegen.latents.latent_history import read_latent_history
from facegen.latents.latent_stats import LatentStats
from facegen.reporting.monitor import Meter, Monitor, peak_memory_mib, progress_line
from facegen.runs.metrics_file import read_metrics


def write(run: Path, start: int, counts: list[int]) -> None:
    monitor = Monitor(run, start)
    for images_seen in counts:
        monitor.scalars({"train/loss": images_seen / 10}, images_seen)
    monitor.close()


def lines_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def drawn(run: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run)).Reload().Scalars("train/loss")
    return [(event.step, pytest.approx(event.value)) for event in events]  # type: ignore[misc]


@pytest.mark.parametrize(("start", "kept"), [(0, []), (4, [2, 4]), (5, [2, 4])])
def test_a_resumed_run_drops_the_lines_after_its_start(tmp_path: Path, start: int, kept: list[int]) -> None:
    write(tmp_path, 0, [2, 4, 6, 8])
    write(tmp_path, start, [start + 3])
    expected = [*kept, start + 3]
    assert lines_of(tmp_path) == [
        {"images_seen": images_seen, "train/loss": images_seen / 10} for images_seen in expected
    ]
    assert drawn(tmp_path) == [(images_seen, images_seen / 10) for images_seen in expected]


def test_a_line_that_a_killed_process_left_incomplete_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, 0, [2, 4])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"images_seen": 3, "st')
    write(tmp_path, 4, [6])
    assert [line["images_seen"] for line in lines_of(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"null", b"3", b'{"images_seen": "x"}', b'{"images_seen": 1e400}', b"[" * 100_000, b'{"val/mse": 1}']
    + [b'{"images_seen": 3, "val/mse": {}}', b'{"images_seen": 3, "warning": 5}'],
)
def test_a_damaged_line_does_not_keep_a_run_from_resuming(tmp_path: Path, line: bytes) -> None:
    write(tmp_path, 0, [2, 4])
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([lines[0], line, lines[1]]) + b"\n")
    points = read_metrics(tmp_path)
    assert [point["images_seen"] for point in points] == [2, 4]
    assert run_warnings(points, 4) == [] and charts.training_curves("mse", [("run", points)]) is None
    write(tmp_path, 4, [6])
    assert [line["images_seen"] for line in lines_of(tmp_path)] == [2, 4, 6]


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, 0)
    monitor.scalars({"val/mse": 0.5}, 10)
    monitor.scalars({"train/grad_norm": float("inf")}, 20)  # Not JSON: it becomes null.
    assert lines_of(tmp_path) == [{"images_seen": 10, "val/mse": 0.5}, {"images_seen": 20, "train/grad_norm": None}]
    monitor.close()


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_pictures_go_to_a_file_and_to_tensorboard(tmp_path: Path, channels: int, mode: str) -> None:
    pixels = torch.randint(0, 256, (6, 9, channels), dtype=torch.uint8)
    monitor = Monitor(tmp_path, 0)
    monitor.picture("samples", pixels, 70)
    monitor.histogram("latents/mu", torch.randn(20, 3), 70)
    monitor.close()
    picture = Image.open(tmp_path / "pictures/samples_images_000000000070.png")
    assert (picture.mode, picture.size) == (mode, (9, 6))
    assert list(picture.tobytes()) == pixels.flatten().tolist()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("samples")] == [70]
    assert events.Tags()["histograms"] == ["latents/mu"]


def latents(scale: float) -> LatentStats:
    stats = LatentStats.empty(3)
    stats.update(scale * torch.arange(12.0).view(4, 3))
    return stats


def test_each_epoch_of_latents_is_on_disk_at_once_and_drawn_once(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, 0)
    monitor.latent_heatmap(50)  # There is nothing yet.
    for epoch in (1, 2):
        monitor.latent_usage("val", epoch, 100 * epoch, latents(epoch))
        history = read_latent_history(tmp_path)
        assert history is not None
        assert history.epochs.tolist() == list(range(1, epoch + 1))
    monitor.latent_heatmap(210)
    monitor.latent_heatmap(260)  # No epoch has ended since.
    monitor.close()
    resumed = Monitor(tmp_path, 150)
    resumed.latent_heatmap(160)
    resumed.latent_usage("val", 2, 200, latents(3))
    resumed.latent_heatmap(220)
    resumed.close()
    history = read_latent_history(tmp_path)
    assert history is not None
    assert history.images_seen.tolist() == [100, 200]
    assert (history.variance[1] / history.variance[0]).tolist() == pytest.approx([9, 9, 9])
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"latent_usage_images_{number:012d}.png" for number in (210, 220)]
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Images("latent_usage")] == [220]


def test_without_a_run_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = Monitor(None, 0)
    monitor.scalars({"a": 1.0}, 1)
    monitor.picture("b", torch.zeros(2, 2, 3, dtype=torch.uint8), 1)
    monitor.histogram("c", torch.zeros(2), 1)
    monitor.latent_usage("val", 1, 1, latents(1))
    monitor.latent_heatmap(1)
    monitor.close()
    assert list(tmp_path.iterdir()) == []


def test_the_meter_skips_the_first_step() -> None:
    meter = Meter()
    meter.step(10, 100.0, 90.0)
    assert set(meter.report()) == {"peak_memory_mib"}
    meter.step(10, 1.0, 0.25)
    meter.step(10, 3.0, 0.75)
    report = meter.report()
    assert report["images_per_sec"] == 5.0
    assert report["data_wait_percent"] == 25.0
    assert set(meter.report()) == {"peak_memory_mib"}  # Since the last report.


def test_peak_memory_is_in_mib() -> None:
    assert 50 < peak_memory_mib() < 100_000


def test_progress_line() -> None:
    values = {"train/loss": 0.12345, "val/mse": 9.0, "peak_memory_mib": 512.3}
    assert (
        progress_line(2_000, 10_000, 0.5, values) == "2,000/10,000 images | epoch 0.50 | loss 0.1235 | memory 512 MiB"
    )
    speed = {"images_per_sec": 2.0, "data_wait_percent": 12.34}
    line = progress_line(2_000, 10_000, 0.5, values | speed)
    assert "2 images/s | data wait 12.3 % | 1:06:40 left" in line
