"""Images that another program made: ``images:DIR`` for a folder of image files, ``npz:FILE`` for an array of NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.stand_ins.stand_in import StandIn, fixed
from facegen.pixels import to_float
from shards.base.errors import UserError
from shards.dataset.manifest import ImageFormat
from shards.images.reading import BadImage, open_image, to_mode

PREFIXES = ("images:", "npz:")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class ImageFiles(StandIn):
    """Finished images, in the order of their names or of the array."""

    def __init__(self, name: str, images: Callable[[int, int], np.ndarray], identity: str, num: int) -> None:
        """Takes ``images(first, last)``, which returns uint8 N x H x W x C."""
        super().__init__(name, "set of images of another program", {"sample"}, identity, num_images=num)
        self._images = images

    def sample(self, num: int, *, seed: int = 0, std: float = 1.0, labels: Any = None, first: int = 0) -> Tensor:
        """As ``StandIn.sample``; a seed changes nothing.

        Raises:
            UserError: Fewer images, a file that is none, or another standard deviation.
        """
        fixed(std, self.name)
        self.require(first + num)
        return to_float(torch.from_numpy(self._images(first, first + num)))


def open_image_files(path: str, image: ImageFormat) -> ImageFiles:
    """Opens ``images:DIR`` or ``npz:FILE`` for comparison with a data set's images.

    Files of another size are resized (bicubic, antialiased) where their shape is the same, and become RGB or gray as
    the data set's are. An array must have the data set's size.

    Raises:
        UserError: Nothing there, or not images.
    """
    kind, _, place = path.partition(":")
    return _open_folder(path, Path(place), image) if kind == "images" else _open_array(path, Path(place), image)


def _open_folder(path: str, folder: Path, image: ImageFormat) -> ImageFiles:
    if not folder.is_dir():
        raise UserError(f"folder {folder} does not exist; give images:DIR.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"{folder} holds no image files ({', '.join(_SUFFIXES)}); give another images:DIR.")
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    identity = hashlib.sha256(repr(facts).encode()).hexdigest()

    def read(first: int, last: int) -> np.ndarray:
        return np.stack([_read(file, image) for file in files[first:last]])

    return ImageFiles(folder.name or path, read, identity, len(files))


def _read(file: Path, image: ImageFormat) -> np.ndarray:
    try:
        picture = to_mode(open_image(file), "L" if image.channels == 1 else "RGB")
    except BadImage as error:
        raise UserError(f"{file} cannot be evaluated: {error.reason}; remove it or replace it.") from None
    size = (image.width, image.height)
    if picture.width * image.height != picture.height * image.width:
        raise UserError(
            f"{file} has {picture.width}x{picture.height} pixels and the data set {image.width}x{image.height}: "
            "cut the images to that shape."
        )
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture, np.uint8).reshape(image.height, image.width, image.channels)


def _open_array(path: str, file: Path, image: ImageFormat) -> ImageFiles:
    advice = "give npz:FILE with one array of uint8 images, N x H x W x C"
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = [array for name in content.files if (array := content[name]).ndim == 4]
    except (OSError, ValueError, BadZipFile, EOFError, AttributeError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "not a file of NumPy arrays"
        raise UserError(f"{file} cannot be read ({reason}); {advice}.") from None
    if len(arrays) != 1:
        raise UserError(f"{file} holds {len(arrays)} arrays of images; {advice}.")
    (array,) = arrays
    wanted = (image.height, image.width, image.channels)
    if array.dtype != np.uint8 or array.shape[1:] != wanted or not len(array):
        shape = "x".join(map(str, array.shape))
        raise UserError(
            f"{file} holds {array.dtype} {shape}, and images of this data set are uint8 Nx{'x'.join(map(str, wanted))}."
        )
    identity = hashlib.sha256(array.tobytes()).hexdigest()
    return ImageFiles(file.stem, lambda first, last: array[first:last], identity, len(array))
