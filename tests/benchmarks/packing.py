"""Packing at scale: memory by the number of images, and throughput against bare decoding, resizing and encoding.

Usage: python tests/benchmarks/packing.py WORK OUT.json [--nums 2000 20000 200000] [--workers 2]

WORK gets folders of small images (JPEG, 24x24 noise under faces of its own) and the data sets made of them; both are
deleted afterwards. Memory is the peak resident size of the packing process and of its workers, each measured by itself.
The bare loop decodes, crops, resizes and encodes the same files in one process with the same functions, and writes
nothing; a packing with one worker is compared with it, and one with --workers says how it scales.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from shards.codecs import encode
from shards.images import Preparation, open_image, prepare

SIZE = 24
BARE_IMAGES = 4000
PACK = """
import json, resource, sys
from shards.pack import main
main(sys.argv[1:])
own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"peak_rss_mib": own / 1024, "worker_peak_rss_mib": workers / 1024}))
"""


def make_images(root: Path, num: int, start: int = 0) -> None:
    """JPEG files of 32x32 pixels in folders of 1,000."""
    pool = [
        encode(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8), "jpg", quality=80)
        for seed in range(64)
    ]
    for number in range(start, num):
        folder = root / f"{number // 1000:05d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"image{number:07d}.jpg").write_bytes(pool[number % len(pool)])


def pack(images: Path, out: Path, workers: int) -> dict[str, float]:
    """Packs in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    options = ["--size", str(SIZE), "--subfolders", "ignore", "--workers", str(workers)]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PACK, "folder", str(images), str(out), *options],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    lines = done.stdout.splitlines()
    # The packing's own clock starts when the listing is there, and its workers with it.
    own = next(line for line in lines if "images/s" in line)
    return json.loads(lines[-1]) | {
        "seconds": seconds,
        "images_per_sec": float(own.split("(")[1].split(" ")[0]),
        "num_bytes": sum(path.stat().st_size for path in out.glob("*.tar")),
    }


def bare(images: Path) -> float:
    """Images a second of decoding, cropping, resizing and encoding alone, in this process."""
    files = sorted(images.rglob("*.jpg"))[:BARE_IMAGES]
    preparation = Preparation(SIZE, 3, None, "lanczos")
    for file in files[:200]:
        encode(prepare(open_image(file), preparation)[0], "jpg", quality=95)
    start = time.monotonic()
    for file in files:
        encode(prepare(open_image(file), preparation)[0], "jpg", quality=95)
    return len(files) / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nums", type=int, nargs="+", default=[2000, 20000, 200000])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    images, out = options.work / "images", options.work / "packed"
    rows, start = [], 0
    for num in sorted(options.nums):
        make_images(images, num, start)
        start = num
        row = {"num_images": num, "workers": options.workers} | pack(images, out, options.workers)
        rows.append(row)
        print(row, flush=True)
    shutil.rmtree(options.work)
    small = options.work / "few"
    make_images(small, BARE_IMAGES)
    throughput = {"bare": [], "one_worker": [], "workers": []}
    for _ in range(3):  # in turns, since the machine may have other work
        throughput["bare"].append(bare(small))
        throughput["one_worker"].append(pack(small, out, 1)["images_per_sec"])
        throughput["workers"].append(pack(small, out, options.workers)["images_per_sec"])
    shutil.rmtree(options.work)
    result = {
        "memory": rows,
        "images_per_sec": throughput,
        "of_bare": float(np.median(throughput["one_worker"]) / np.median(throughput["bare"])),
        "scaling": float(np.median(throughput["workers"]) / np.median(throughput["one_worker"])),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB in this process")


if __name__ == "__main__":
    main()
