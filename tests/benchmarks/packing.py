"""Packing at scale: memory by the number of images, and throughput against bare decoding, resizing and encoding.

    python tests/benchmarks/packing.py memory WORK OUT.json [--nums 2000 20000 200000] [--workers 2]
    python tests/benchmarks/packing.py throughput WORK OUT.json --images FOLDER [--num 2500] [--size 64]

WORK is created, and deleted at the end. ``memory`` packs folders of small JPEG files (32x32 noise) and reports the peak
resident size of the packing process and of its largest worker, and the growth of both from the first shard to the last.
``throughput`` packs copies of the first files of FOLDER, with one worker and with two, and compares with a loop that
decodes, crops, resizes and encodes the same files with the same functions and writes nothing. CPU seconds are compared
as well, since they depend less on what else the machine does. Starting Python and importing are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from shards.images.codecs import encode
from shards.images.reading import Preparation, open_image, prepare
from shards.sources.files.listing import list_files

ROUNDS = 3
# RUSAGE_CHILDREN would count the parent's pages before exec as the worker's.
PACK = """
import json, multiprocessing, re, sys, threading, time
from pathlib import Path
from shards.pack import main

def rss_mib(process, what):
    try:
        return int(re.search(what + r":\\s+(\\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) / 1024
    except (FileNotFoundError, ProcessLookupError, TypeError):
        return 0.0

def watch():
    while not is_done.wait(0.2):
        workers = [process.pid for process in multiprocessing.active_children()]
        if any(Path(sys.argv[3]).glob("*.tar")) and not Path(sys.argv[3], "index.safetensors").exists():
            seen.append([max((rss_mib(pid, what) for pid in pids), default=0.0)
                         for pids, what in ((["self"], "VmRSS"), (workers, "VmRSS"), (workers, "VmHWM"))])

is_done, seen = threading.Event(), [[0.0, 0.0, 0.0]]
watcher = threading.Thread(target=watch)
watcher.start()
wall, cpu = time.monotonic(), time.process_time()
main(sys.argv[1:])
wall, cpu = time.monotonic() - wall, time.process_time() - cpu
is_done.set()
watcher.join()
own, workers, peaks = zip(*seen)
print(json.dumps({
    "seconds": wall, "cpu_seconds": cpu, "peak_rss_mib": rss_mib("self", "VmHWM"), "worker_peak_rss_mib": max(peaks),
    "growth_mib": max(own) - own[min(1, len(own) - 1)],
    "worker_growth_mib": max(workers) - workers[min(1, len(workers) - 1)],
}))
"""


def pack(images: Path, out: Path, size: int, workers: int) -> dict[str, float]:
    """Packs in its own process."""
    shutil.rmtree(out, ignore_errors=True)
    options = ["--size", str(size), "--subfolders", "ignore", "--workers", str(workers)]
    command = [sys.executable, "-c", PACK, "folder", str(images), str(out), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory(work: Path, nums: list[int], workers: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pool = [encode(rng.integers(0, 255, (32, 32, 3), np.uint8), "jpg", quality=80) for _ in range(64)]
    rows, start = [], 0
    for num in sorted(nums):
        for number in range(start, num):
            folder = work / "images" / f"{number // 1000:05d}"
            if number % 1000 == 0:
                folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"image{number:07d}.jpg"
            if number < len(pool):
                path.write_bytes(pool[number])
            else:  # Links to the first ones: the disk is not measured.
                os.link(work / "images" / "00000" / f"image{number % len(pool):07d}.jpg", path)
        start = num
        rows.append({"num_images": num, "workers": workers} | pack(work / "images", work / "packed", 24, workers))
        print(rows[-1], flush=True)
    return {"memory": rows}


def throughput(work: Path, images: Path, num: int, size: int) -> dict[str, Any]:
    files = list_files(images)[0][:num]
    for number, file in enumerate(files):
        target = work / "images" / f"{number:06d}{Path(file).suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / file, target)
    copies = sorted((work / "images").iterdir())
    preparation = Preparation(size, 3, None, "lanczos")
    rounds = []
    for _ in range(ROUNDS):  # Alternating, since the machine may have other work.
        wall, cpu = time.monotonic(), time.process_time()
        for copy in copies:
            encode(prepare(open_image(copy), preparation)[0], "jpg", quality=95)
        bare = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
        one, two = (pack(work / "images", work / "packed", size, workers) for workers in (1, 2))
        rounds.append({"bare": bare, "one_worker": one, "two_workers": two})
        print(rounds[-1], flush=True)

    def ratio(key: str, above: str, below: str) -> float:
        return float(np.median([entry[above][key] / entry[below][key] for entry in rounds]))

    return {
        "num_images": len(copies),
        "size": size,
        "rounds": rounds,
        "bare_images_per_sec": len(copies) / float(np.median([entry["bare"]["seconds"] for entry in rounds])),
        "of_bare": ratio("seconds", "bare", "one_worker"),
        "of_bare_by_cpu_time": ratio("cpu_seconds", "bare", "one_worker"),
        "two_workers_to_one": ratio("seconds", "one_worker", "two_workers"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("memory", "throughput"))
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nums", type=int, nargs="+", default=[2000, 20000, 200000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--num", type=int, default=2500)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    if options.work.exists():
        parser.error(f"{options.work} is there already; give a folder that may be deleted.")
    load = os.getloadavg()[0]
    try:
        if options.what == "memory":
            result = memory(options.work, options.nums, options.workers)
        else:
            result = throughput(options.work, options.images, options.num, options.size)
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores; {loads}"
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
