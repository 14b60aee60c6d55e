"""Images per second from JPEG shards to uint8 batches with labels, on one core: shards.loading beside webdataset.

    python tests/benchmarks/loader.py [--data DIR]

Every contestant reads the same shards, in interleaved rounds; the first one warms up, and medians are reported.
webdataset does less: it neither shuffles nor turns labels into tensors, and it runs without worker processes, which
would only add copying on one core. ``shards.loading`` shuffles and returns labels as tensors; it is also measured with
its cache of decoded images.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from scipy.ndimage import gaussian_filter
from webdataset.compat import WebDataset

from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import ImageFormat, LabelField, Manifest, Shard
from shards.dataset.tar import ShardWriter, read_samples, sha256_file
from shards.dataset.writer import Columns, write_dataset
from shards.images.codecs import encode
from shards.loading.loader import TrainLoader
from shards.loading.reader import Reader

SPLIT = "train"
WEBDATASET = "webdataset, its own decoder"
LOADER = "shards.loading.loader, {} threads"
LATER = "shards.loading.loader, 2 threads, epochs after the first"
BARE = "bare simplejpeg decoding, no reading"


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    data: Path | None = None
    """A packed JPEG data set with a train split; when null, smooth random pictures are packed."""
    num_images: int = 8192
    """Images that each contestant loads in a round; more than the data set holds are several epochs."""
    rounds: int = 7
    """Measured rounds; the medians over them are reported."""
    batch_size: int = 256
    """Images of a batch."""
    core: int | None = None
    """CPU core to run on; when null, the first that this process may use."""
    out: Path = Path(__file__).parent / "results"
    """Folder for loader.md and loader.json."""


@dataclass(frozen=True)
class Speed:
    """Medians of one contestant over the rounds."""

    name: str
    images_per_sec: float
    images_per_cpu_sec: float
    """Images per second of CPU time: what an idle core would give, even if other programs used this one."""
    slowest: float
    fastest: float


def pack_pictures(root: Path, num_images: int, images_per_shard: int = 1024, size: int = 64) -> None:
    """Packs smooth random color pictures whose JPEGs (quality 95) have the sizes of photographed faces, 2 to 3 kB."""
    rng = np.random.default_rng(0)
    shards, offsets, sizes, keys, smiles, glasses = [], [], [], [], [], []
    for first in range(0, num_images, images_per_shard):
        path = root / f"{SPLIT}-{len(shards):06d}.tar"
        with ShardWriter(path) as writer:
            for number in range(first, min(first + images_per_shard, num_images)):
                data = encode(_picture(rng, size), "jpg")
                labels = {"smile": round(float(rng.uniform(-1, 1)), 4), "glasses": bool(rng.integers(2))}
                writer.add(f"{number:08d}", "jpg", data)
                writer.add(f"{number:08d}", "json", json.dumps(labels).encode())
                sizes.append(len(data))
                keys.append(f"{number:08d}")
                smiles.append(labels["smile"])
                glasses.append(labels["glasses"])
        members = [sample.find(("jpg",)) for sample in read_samples(path)]
        offsets += [member.offset for member in members if member]
        shards.append(Shard(path.name, SPLIT, len(members), path.stat().st_size, sha256_file(path)))
    fields = {"smile": LabelField("float"), "glasses": LabelField("bool")}
    manifest = Manifest("pictures", ImageFormat(size, size, 3, "jpg"), fields, tuple(shards), {}, {})
    columns = {"smile": fields["smile"].encode(smiles), "glasses": fields["glasses"].encode(glasses)}
    write_dataset(root, manifest, Columns(np.array(offsets), np.array(sizes), keys, columns))


def _picture(rng: np.random.Generator, size: int) -> np.ndarray:
    # Noise of three scales: large areas, features, and a camera's grain.
    layers = [
        contrast * _unit(gaussian_filter(rng.standard_normal((size, size, 3)), (sigma, sigma, 0)))
        for sigma, contrast in ((size / 6, 45), (size / 24, 18), (0.6, 3))
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def _unit(noise: np.ndarray) -> np.ndarray:
    return (noise - noise.mean()) / noise.std()


def contestants(dataset: Dataset, config: Config) -> dict[str, Callable[[], Iterator[int]]]:
    """The contestants, by name: a function that starts one and returns an endless stream of batch lengths."""
    shape = (dataset.image.height, dataset.image.width, dataset.image.channels)
    num_samples = dataset.num_samples(SPLIT)
    encoded = list(Reader(dataset, SPLIT).read(np.arange(min(num_samples, config.num_images))))
    urls = [str(dataset.root / shard.name) for shard in dataset.shards(SPLIT)]

    def bare() -> Iterator[int]:
        batch = np.empty((config.batch_size, *shape), np.uint8)
        while True:
            for start in range(0, len(encoded) - config.batch_size + 1, config.batch_size):
                for position in range(config.batch_size):
                    simplejpeg.decode_jpeg(encoded[start + position], buffer=batch[position])
                yield config.batch_size

    def make_loader(num_threads: int, decoded_bytes: int = 0) -> TrainLoader:
        size = config.batch_size
        return TrainLoader(
            dataset, SPLIT, global_batch_size=size, seed=0, num_threads=num_threads, decoded_bytes=decoded_bytes
        )

    def deliver(loader: TrainLoader) -> Iterator[int]:
        for batch in loader:
            yield len(batch.images)

    experienced = make_loader(2, decoded_bytes=num_samples * math.prod(shape))  # After the round that warms up.

    def web(decode: Callable[[Any], Any]) -> Iterator[int]:
        pipeline = WebDataset(urls, shardshuffle=False).repeat()
        for images, _ in decode(pipeline).to_tuple("jpg", "json").batched(config.batch_size):
            yield len(torch.from_numpy(images))

    return {
        BARE: bare,
        **{LOADER.format(number): lambda number=number: deliver(make_loader(number)) for number in (0, 1, 2)},
        LATER: lambda: deliver(experienced),
        WEBDATASET: lambda: web(lambda pipeline: pipeline.decode("rgb8")),
        "webdataset, simplejpeg decoder": lambda: web(
            lambda pipeline: pipeline.map_dict(jpg=simplejpeg.decode_jpeg, json=json.loads)
        ),
    }


def measure(start: Callable[[], Iterator[int]], num_images: int) -> tuple[float, float]:
    """Wall and CPU seconds to load ``num_images``, start included; scaled if the last batch exceeds them."""
    wall, cpu = time.perf_counter(), time.process_time()
    delivered = 0
    for num_batch_images in (stream := start()):
        delivered += num_batch_images
        if delivered >= num_images:
            break
    stream.close()  # type: ignore[attr-defined]
    scale = num_images / delivered
    return (time.perf_counter() - wall) * scale, (time.process_time() - cpu) * scale


def compete(dataset: Dataset, config: Config) -> list[Speed]:
    """Measures all contestants in turn, in every round."""
    runners = contestants(dataset, config)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    for round_number in range(1 + config.rounds):
        for name, start in runners.items():
            result = measure(start, config.num_images)
            if round_number:
                seconds[name].append(result)
    speeds = []
    for name, results in seconds.items():
        wall, cpu = ([config.num_images / result[clock] for result in results] for clock in (0, 1))
        speeds.append(Speed(name, statistics.median(wall), statistics.median(cpu), min(wall), max(wall)))
    return speeds


def report(speeds: list[Speed], conditions: dict[str, Any]) -> str:
    """The results as Markdown."""
    webdataset_speed = next(speed for speed in speeds if speed.name == WEBDATASET)
    lines = ["# Loader on one core", "", "Made by `python tests/benchmarks/loader.py`.", ""]
    lines += [f"* {name.replace('_', ' ')}: {value}" for name, value in conditions.items()]
    lines += ["", "| | images/s (median) | slowest to fastest round | images per CPU second | times webdataset |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for speed in speeds:
        ratio = speed.images_per_sec / webdataset_speed.images_per_sec
        lines.append(
            f"| {speed.name} | {speed.images_per_sec:,.0f} | {speed.slowest:,.0f} to {speed.fastest:,.0f} "
            f"| {speed.images_per_cpu_sec:,.0f} | {ratio:.1f} |"
        )
    return "\n".join(lines) + "\n"


def describe(dataset: Dataset, config: Config) -> dict[str, Any]:
    """The conditions under which these numbers were measured."""
    image = dataset.image
    return {
        "images": f"{image.height}x{image.width}x{image.channels} {image.extension} from '{dataset.manifest.name}'",
        "mean_jpeg_bytes": round(float(dataset.column("size", SPLIT).mean())),
        "images_in_the_data_set": dataset.num_samples(SPLIT),
        "images_per_round": config.num_images,
        "rounds": config.rounds,
        "batch_size": config.batch_size,
        "processor": _processor(),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("simplejpeg", "webdataset", "pillow", "torch")),
    }


def use_one_core(core: int | None) -> None:
    """Pins this process to one core.

    Raises:
        UserError: A core that this process may not use, or a system that cannot pin.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("a process is pinned to one core only on Linux; run the benchmark there.")
    allowed = sorted(os.sched_getaffinity(0))
    if core is not None and core not in allowed:
        raise UserError(f"core {core} is not one of those that this process may use: {', '.join(map(str, allowed))}.")
    os.sched_setaffinity(0, {allowed[0] if core is None else core})
    torch.set_num_threads(1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Packs if needed, measures, prints and writes the table."""
    # Without arguments the parser would print its help.
    arguments = sys.argv[1:] or [f"--rounds={Config.rounds}"]
    config = parse(Config, prog="python tests/benchmarks/loader.py", description=__doc__ or "", args=arguments)
    use_one_core(config.core)
    with tempfile.TemporaryDirectory() as scratch:
        if config.data is None:
            pack_pictures(Path(scratch), config.num_images)
        dataset = Dataset(config.data or scratch)
        if dataset.image.extension != "jpg" or dataset.num_samples(SPLIT) < config.batch_size:
            raise UserError(f"{dataset.root} needs JPEG images and {config.batch_size} of them in split '{SPLIT}'.")
        speeds = compete(dataset, config)
        conditions = describe(dataset, config)
    text = report(speeds, conditions)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "loader.md").write_text(text)
    content = {"conditions": conditions, "speeds": [asdict(speed) for speed in speeds]}
    (config.out / "loader.json").write_text(json.dumps(content, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    run(main)
