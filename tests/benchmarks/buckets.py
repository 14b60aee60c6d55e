"""Images packed from bucket to bucket while requests fail and stall, beside the same packed on the disk.

    python -m tests.benchmarks.buckets ~/faces/lfw/lfw-deepfunneled --nums '[3000,13233]'

The server is moto's S3, in this process. Of the requests of the packing, a share fails: refused, answered with an error
after they were carried out, never answered, or broken off or stuck in the middle of the answer. Beside the packing, the
output is listed again and again: every shard that is seen must have its final size, and ``dataset.json`` must be seen
only when all else is there. Memory is the largest resident size of the packing process and of its largest worker.
Writes ``tests/benchmarks/results/buckets.json`` and ``.md``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from shards.base.errors import UserError
from shards.command_line.cli import parse, run
from shards.dataset.tar import ShardWriter
from shards.sources.files.listing import list_files
from tests.benchmarks.tables import Rows, record
from tests.helpers.request_faults import Faults
from tests.helpers.s3_server import BUCKET, half_written, open_uploads, serving_with_faults, watched

RESULTS = Path(__file__).parent / "results" / "buckets"
_IMAGES_PER_TAR = 1000
_PACK = """
import json, multiprocessing, re, sys, threading
from pathlib import Path
from shards.pack import main

def peak_mib(process):
    try:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) / 1024
    except (FileNotFoundError, ProcessLookupError, TypeError):
        return 0.0

def watch():
    while not is_done.wait(0.2):
        peaks.extend(peak_mib(worker.pid) for worker in multiprocessing.active_children())

if __name__ == "__main__":
    is_done, peaks = threading.Event(), [0.0]
    threading.Thread(target=watch, daemon=True).start()
    main(sys.argv[1:])
    is_done.set()
    print(json.dumps([peak_mib("self"), max(peaks)]))
"""


@dataclass
class BucketsConfig:
    """Options of the benchmark."""

    images: Path
    """Folder of images, searched recursively."""
    nums: list[int] = field(default_factory=lambda: [3000, 13233])
    """Numbers of images."""
    share: float = 0.05
    """Of the requests that fail."""
    sources: list[str] = field(default_factory=lambda: ["folder", "webdataset"])
    """How the images lie in the bucket: as files, as tars, or both."""
    timeout_sec: float = 6.0
    """FACEGEN_TIMEOUT_SEC of the packing."""
    workers: int = 2
    """Processes."""


def folder(config: BucketsConfig, work: Path) -> Rows:
    """Images that lie in the bucket as files."""
    return _rows(config, "folder", work)


def webdataset(config: BucketsConfig, work: Path) -> Rows:
    """Images that lie in the bucket as tars."""
    return _rows(config, "webdataset", work)


PARTS: dict[str, Callable[[BucketsConfig, Path], Rows]] = {"folder": folder, "webdataset": webdataset}


def _rows(config: BucketsConfig, source: str, work: Path) -> Rows:
    rows = []
    with serving_with_faults() as (client, faults):
        for num in config.nums:
            files = list_files(config.images)[0][:num]
            given = (_as_files if source == "folder" else _as_tars)(config.images, files, work / f"{source}-{num}")
            rows.append(_row(config, client, faults, source, given))
            print(source, rows[-1], flush=True)
    return rows


def _as_files(images: Path, files: list[str], folder: Path) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / file, folder / file)
    return folder


def _as_tars(images: Path, files: list[str], folder: Path) -> Path:
    folder.mkdir()
    for start in range(0, len(files), _IMAGES_PER_TAR):
        with ShardWriter(folder / f"{start:06d}.tar") as writer:
            for file in files[start : start + _IMAGES_PER_TAR]:
                path = images / file
                writer.add(path.stem, path.suffix[1:], path.read_bytes())
                writer.add(path.stem, "json", json.dumps({"identity": file.split("/")[0]}).encode())
    return folder


def _row(config: BucketsConfig, client: Any, faults: Faults, source: str, given: Path) -> dict[str, Any]:
    out, prefix, store = given.with_name(f"{given.name}-packed"), given.name, s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    files = [path for path in sorted(given.rglob("*")) if path.is_file()]
    for path in files:  # Not by way of HTTP: uploading is not measured.
        store.put_object(BUCKET, f"{prefix}/{path.relative_to(given)}", path.read_bytes())
    here = _pack(config, source, str(given), str(out))
    faults.share = config.share
    faults.requests.clear()
    faults.injected.clear()
    with watched(client, f"{prefix}-packed") as seen:
        there = _pack(config, source, f"s3://{BUCKET}/{prefix}", f"s3://{BUCKET}/{prefix}-packed")
    manifest = json.loads(client.get_object(Bucket=BUCKET, Key=f"{prefix}-packed/dataset.json")["Body"].read())
    local = json.loads((out / "dataset.json").read_text())
    stalled = sum(count for (_, kind), count in faults.injected.items() if kind in ("silent", "stuck"))
    return {
        "images": sum(shard["num_samples"] for shard in manifest["shards"]),
        "requests": faults.requests.total(),
        "failed": sum(faults.injected.values()) - stalled,
        "stalled": stalled,
        "same fingerprint": manifest["fingerprint"] == local["fingerprint"],
        "half-written": half_written(seen, manifest) + open_uploads(client),
        "listings": len(seen),
        "s": there["seconds"],
        "s on disk": here["seconds"],
        "MiB": there["peak_mib"],
        "MiB of a worker": there["worker_peak_mib"],
        "MiB on disk": here["peak_mib"],
    }


def _pack(config: BucketsConfig, source: str, given: str, out: str) -> dict[str, float]:
    options = ["--size", "64", "--crop", "83,92,167,176", "--workers", str(config.workers)]
    options += ["--subfolders", "identity"] if source == "folder" else ["--identity_label", "identity"]
    environment = {**os.environ, "FACEGEN_TIMEOUT_SEC": str(config.timeout_sec)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _PACK, source, given, out, *options], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise UserError(f"packing {given} failed: {done.stdout}")
    peak, worker_peak = json.loads(done.stdout.splitlines()[-1])
    seconds = round(time.monotonic() - started, 1)
    return {"seconds": seconds, "peak_mib": round(peak), "worker_peak_mib": round(worker_peak)}


def main() -> None:
    config = parse(
        BucketsConfig,
        prog="python -m tests.benchmarks.buckets",
        description="Packs images from bucket to bucket while requests fail and stall.",
        positional=("images",),
    )
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="facegen-buckets-") as work:
        measured = {part: PARTS[part](config, Path(work)) for part in config.sources}
    about = "Written by `python -m tests.benchmarks.buckets`. Two workers; 5 % of the requests fail or stall."
    record(RESULTS, "From bucket to bucket", about, PARTS, measured)


if __name__ == "__main__":
    run(main)
