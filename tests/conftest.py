"""Shared by all tests: a tiny data set of real shards, configs of runs that take a second, and a browser."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tensorboard.summary.writer import event_file_writer

from facegen.config import config_class
from facegen.options import CheckpointConfig, LoaderConfig, MonitorConfig, OptimConfig, TrainConfig
from shards.base.errors import ENDING
from shards.pack import main as pack
from tiny_families import augment_for
from tiny_families import tiny_config as tiny_model

TINY_SIZE = 16
BROWSER_TIMEOUT_MS = 240_000
_TESTS = Path(__file__).parent
_MARKS = {
    _TESTS / "unit": "unit",
    _TESTS / "integration" / "processes": "processes",
    _TESTS / "browser": "browser",
}

# A busy machine must not fail a property test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by its folder."""
    for item in items:
        for folder, mark in _MARKS.items():
            if item.path.is_relative_to(folder):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Keeps imported objects out of garbage collection, which many tests call to end a run as its process would."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Makes sums bitwise reproducible, and parallel tests independent of each other's load."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def event_files_in_order() -> None:
    """Starts TensorBoard's counter at 1000: it sorts event files of one second by it as text, 10 before 9."""
    event_file_writer._global_uid = event_file_writer.AtomicCounter(1000)


@pytest.fixture(autouse=True)
def no_ending() -> None:
    """Clears the event that an earlier test set when it ran a program to its end in this process."""
    ENDING.clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium. One at a time: its driver runs an event loop until it is stopped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the path")
    # As root, Chromium starts only without its sandbox; it opens only our own pages. The camera is a fake.
    options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=options, timeout=BROWSER_TIMEOUT_MS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 synthetic faces of 16x16 pixels: about 195 for training and 30 in each held-out split."""
    return _pack(tmp_path_factory.mktemp("data") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like ``tiny_dataset``, with other faces."""
    return _pack(tmp_path_factory.mktemp("data") / "other", seed=1)


@pytest.fixture
def tiny_config(tiny_dataset: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes the config of a quick run in ``tmp_path / "run"``; named options replace its defaults."""

    def make(family: str = "vae", *, model: dict[str, Any] | None = None, **options: Any) -> TrainConfig:
        defaults: dict[str, Any] = {
            "data": str(tiny_dataset),
            "run": str(tmp_path / "run"),
            "global_batch_size": 16,
            "max_steps": 4,
            "optim": OptimConfig(lr=1e-3, warmup_images=32),
            "augment": augment_for(family),
            "loader": LoaderConfig(num_threads=0),
            "monitor": MonitorConfig(
                log_every_images=32,
                grid_every_images=1_000_000,
                validate_every_images=1_000_000,
                num_validation_images=20,
            ),
            "checkpoint": CheckpointConfig(every_images=1_000_000),
        }
        return config_class(family)(**defaults | {"model": tiny_model(family, **(model or {}))} | options)

    return make


def _pack(root: Path, seed: int) -> Path:
    options = ["--num", "256", "--size", str(TINY_SIZE), "--seed", str(seed)]
    pack(["synthetic", str(root), *options, "--samples_per_shard", "64", "--workers", "1"])
    return root
