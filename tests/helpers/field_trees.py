"""Small trees in the layouts of published data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from shards.dataset.tar import ShardWriter

LFW = (
    "lfw-deepfunneled/Ann/Ann_0001.jpg",
    "lfw-deepfunneled/Ann/Ann_0002.png",
    "lfw-deepfunneled/Ann_Lee/Ann_Lee_0001.jpg",
    "lfw-deepfunneled/Ann_Lee/group.jpg",
    "lfw-deepfunneled/Bo_Jr./Bo_Jr._0001.jpg",
    "lfw-deepfunneled/Bo_Jr./Thumbs.db.jpg",
    "lfw-deepfunneled/12/12_0001.jpg",
    "lfw-deepfunneled/9/9_0001.ppm",
    "lfw-deepfunneled/Empty/none.jpg",
)
UTKFACE = ("UTKFace/1_0_2_20161219140530307.jpg.chip.jpg", "UTKFace/26_1_0_20170104023102422.jpg.chip.jpg",
           "UTKFace/116_1_3_20170120134921760.jpg.chip.jpg")  # fmt: skip
CASIA = ("CASIA-WebFace/0000045/001.jpg", "CASIA-WebFace/0000045/002.jpg", "CASIA-WebFace/0000099/001.jpg")
FEI = ("part1/1-01.jpg", "part1/1-11.jpg", "part1/1-12.jpg", "part1/1-14.jpg", "frontal/2a.jpg", "frontal/2b.jpg")
SMILES = (
    "SMILEs/positives/positives7/1.jpg",
    "SMILEs/positives/positives7/12.jpg",
    "SMILEs/negatives/n7/1.jpg",
)


def write_images(root: Path, files: Iterable[str], mode: str = "RGB", size: tuple[int, int] = (40, 40)) -> None:
    """Writes a plain image for each path, each in another color."""
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        color = number * 17 % 250
        Image.new(mode, size, (color, 100, 50) if mode == "RGB" else color).save(path)


def write_olivetti(root: Path, num_people: int = 4) -> None:
    """Writes ``olivettifaces.mat``: column i is picture i, column by column; pixel (r, c) is r + 64 (i % 3)."""
    rows = np.arange(64, dtype=np.uint8)[:, None] + np.zeros((1, 64), np.uint8)
    pictures = [rows + 64 * (number % 3) for number in range(10 * num_people)]
    root.mkdir(parents=True, exist_ok=True)
    columns = np.stack([picture.T.reshape(-1) for picture in pictures], axis=1).astype(np.uint8)
    scipy.io.savemat(root / "olivettifaces.mat", {"faces": columns})


def write_shard(root: Path) -> None:
    """Writes a WebDataset shard of two samples."""
    write_images(root, ("a.png", "b.png"))
    with ShardWriter(root / "faces.tar") as writer:
        for key in "ab":
            writer.add(key, "png", (root / f"{key}.png").read_bytes())
            writer.add(key, "cls", b"3")


TREES: dict[str, Callable[[Path], None]] = {
    "lfw": lambda root: write_images(root, LFW, size=(250, 250)),
    "utkface": lambda root: write_images(root, UTKFACE),
    "casia_webface": lambda root: write_images(root, CASIA),
    "fei": lambda root: write_images(root, FEI),
    "smiles": lambda root: write_images(root, SMILES, "L", (64, 64)),
    "olivetti": write_olivetti,
    "webdataset": write_shard,
}
