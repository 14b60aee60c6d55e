"""What a data card measures on each image: brightness, sharpness, a perceptual hash, a thumbnail."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.fft
from PIL import Image

from shards.dataset.dataset import Dataset
from shards.loading.reader import Reader

HASH_BITS = 64
THUMBNAIL = 16
_HASHED, _LOW = 32, 8
_BLOCK = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow's


@dataclass(frozen=True)
class Measures:
    """One row an image, split after split, 276 bytes each.

    Attributes:
        split: int8 (N,), position in the data set's ``splits``.
        row: int64 (N,), row of the split.
        brightness: float32 (N,), mean luma, 0 to 255.
        sharpness: float32 (N,), variance of the luma's Laplacian (Pech-Pacheco et al. 2000); low is blurred.
        hash: uint64 (N,), ``perceptual_hash``.
        thumbnail: uint8 (N, 16, 16), luma.
    """

    split: np.ndarray
    row: np.ndarray
    brightness: np.ndarray
    sharpness: np.ndarray
    hash: np.ndarray
    thumbnail: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.row)


def measure(dataset: Dataset, max_images: int, num_threads: int = 2) -> Measures:
    """Measures the images of all splits; of more than ``max_images``, an evenly spread selection.

    Raises:
        UserError: A damaged shard or image.
    """
    chosen = _choose(dataset, max_images)
    parts = []
    with ThreadPoolExecutor(num_threads) as pool:  # Decoding releases the GIL.
        for number, split in enumerate(dataset.splits):
            reader = Reader(dataset, split)
            blocks = np.array_split(chosen[split], -(-len(chosen[split]) // _BLOCK))
            measured = _in_order(pool, reader, dataset, blocks, 2 * num_threads)
            parts += [
                (np.full(len(rows), number, np.int8), rows, *values)
                for rows, values in zip(blocks, measured, strict=True)
            ]
    return Measures(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def measure_block(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Brightness, sharpness, hash and thumbnail of uint8 images (N, H, W, C)."""
    luma = images[..., 0].astype(np.float32) if images.shape[3] == 1 else images @ _LUMA
    small = np.stack([_resized(picture, _HASHED) for picture in luma])
    thumbnails = np.stack([_resized(picture, THUMBNAIL) for picture in luma])
    return (
        luma.mean(axis=(1, 2)),
        _laplacian_variance(luma),
        perceptual_hash(small),
        np.clip(np.round(thumbnails), 0, 255).astype(np.uint8),
    )


def perceptual_hash(luma: np.ndarray) -> np.ndarray:
    """pHash: which of the 64 lowest cosine frequencies of an image lie above their median (Zauner 2010).

    Args:
        luma: (N, 32, 32).

    Returns:
        uint64 (N,). The Hamming distance of two hashes is small if the images look alike.
    """
    frequencies = np.asarray(scipy.fft.dctn(luma, axes=(1, 2)))
    low = frequencies[:, :_LOW, :_LOW].reshape(len(luma), HASH_BITS)
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)  # The first is the mean, not a pattern.
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _choose(dataset: Dataset, max_images: int) -> dict[str, np.ndarray]:
    """Rows of each split, proportional to its size, at least one."""
    total = sum(map(dataset.num_samples, dataset.splits))
    share = min(1.0, max_images / total)
    return {
        split: np.linspace(0, num - 1, max(1, int(num * share))).astype(np.int64)
        for split in dataset.splits
        if (num := dataset.num_samples(split))
    }


def _in_order(
    pool: ThreadPoolExecutor, reader: Reader, dataset: Dataset, blocks: list[np.ndarray], ahead: int
) -> Iterator[tuple[np.ndarray, ...]]:
    image = dataset.image

    def work(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        images = np.empty((len(rows), image.height, image.width, image.channels), np.uint8)
        reader.read_images(rows, images)
        return measure_block(images)

    pending = []
    for rows in blocks:
        pending.append(pool.submit(work, rows))
        if len(pending) > ahead:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()


def _resized(luma: np.ndarray, size: int) -> np.ndarray:
    if luma.shape == (size, size):
        return luma
    return np.asarray(Image.fromarray(luma).resize((size, size), Image.Resampling.BOX))


def _laplacian_variance(luma: np.ndarray) -> np.ndarray:
    inner = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    return laplacian.reshape(len(luma), -1).var(axis=1) if laplacian.size else np.zeros(len(luma), np.float32)
