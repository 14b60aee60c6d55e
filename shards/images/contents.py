"""What a WebDataset shard holds: keys, labels, and where the images lie; read from headers, without decoding pixels."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from shards.base.errors import UserError
from shards.base.records import parse_json
from shards.dataset.label_types import Scalar, from_cell
from shards.dataset.tar import Member, TarSample, read_samples_of
from shards.images.codecs import PICTURE_CODECS, Codec

CLASS_LABELS = ("cls",)
"""Labels that are classes by WebDataset's convention, whatever their numbers look like."""

_LABEL_EXTENSIONS = ("json", "cls", "txt")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_CHANNELS_OF_MODE = {"L": 1, "RGB": 3}
_REPACK = "crop and resize the images, and keep their labels, with: python -m shards.pack webdataset SHARDS OUTPUT"


@dataclass
class ShardContents:
    """What one shard holds, in file order.

    Attributes:
        extension: Name of the images' codec.
        shape: Height and width of the images.
        num_channels: 3 as soon as one image is RGB.
        keys: Sample keys.
        images: Where the images lie.
        crc32: Checksum of each image's bytes.
        labels: Scalars of each sample, by field.
        ignored: Label names that hold lists or objects.
        imageless: Keys of samples without an image, which are left out.
    """

    extension: str = ""
    shape: tuple[int, int] = (0, 0)
    num_channels: int = 1
    keys: list[str] = field(default_factory=list)
    images: list[Member] = field(default_factory=list)
    crc32: list[int] = field(default_factory=list)
    labels: list[dict[str, Scalar]] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    imageless: list[str] = field(default_factory=list)


def read_contents(path: Path, codecs: Mapping[str, Codec] = PICTURE_CODECS) -> ShardContents:
    """Reads a shard's keys, labels and image headers; pixels stay undecoded.

    Args:
        path: The tar file.
        codecs: By extension, what counts as an image.

    Raises:
        UserError: No samples, none with an image, a sample whose members are not consecutive, or images of several
            sizes or codecs.
    """
    contents = ShardContents()
    imageless: dict[str, str] = {}
    with open(path, "rb") as file:
        for sample in read_samples_of(file, path):
            image = sample.find(tuple(codecs))
            if image is None:
                imageless[sample.key] = ", ".join(member.extension for member in sample.members)
                continue
            codec = codecs[image.extension.rsplit(".", 1)[-1]]
            require_same(path, sample.key, "codec", contents.extension or codec.name, codec.name)
            contents.extension = codec.name
            data = _read(file, image)
            if codec.pil_format:
                shape, num_channels = _image_header(path, sample.key, codec.pil_format, data)
                require_same(path, sample.key, "size", contents.shape if contents.keys else shape, shape)
                contents.shape, contents.num_channels = shape, max(contents.num_channels, num_channels)
            contents.keys.append(sample.key)
            contents.images.append(image)
            contents.crc32.append(zlib.crc32(data))
            try:
                contents.labels.append(read_labels(file, sample, contents.ignored))
            except ValueError as error:
                raise UserError(f"{path}: {error} is not valid; fix or remove it.") from None
    if not contents.keys and not imageless:
        raise UserError(f"{path} holds no samples (files named KEY.EXTENSION); remove it or make it again.")
    if not contents.keys:
        key, found = next(iter(imageless.items()))
        raise UserError(f"{path}: sample '{key}' holds no image ({found} only), nor does any other; {_REPACK}")
    apart = imageless.keys() & set(contents.keys)
    if apart:
        raise not_consecutive(path, min(apart))
    contents.imageless = list(imageless)
    return contents


def split_of_name(name: str) -> str | None:
    """The split that a shard's name contains, such as ``val`` in ``faces-validation-0003.tar``."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


def not_consecutive(path: object, key: str) -> UserError:
    """The error of a shard in which other samples lie between the files of one."""
    return UserError(
        f"{path}: the files of sample '{key}' are not consecutive, as WebDataset requires; make the shard again with: "
        "tar --sort=name -cf"
    )


def note_ignored(names: Iterable[str]) -> list[str]:
    """A sentence for each label that holds lists or objects."""
    return [f"Label '{name}' holds lists or objects and was left out." for name in sorted(names)]


def read_labels(file: BinaryIO, sample: TarSample, ignored: set[str]) -> dict[str, Scalar]:
    """The scalar labels of a sample.

    Args:
        file: The shard.
        sample: Of the shard.
        ignored: Gets the names of labels that hold lists or objects.

    Raises:
        ValueError: A label file that is not UTF-8, or not JSON; names it.
    """
    labels: dict[str, Scalar] = {}
    for member in sample.members:
        if member.extension not in _LABEL_EXTENSIONS:
            continue
        content = _read(file, member)  # Not below: that this fails says nothing about the label.
        try:
            text = content.decode()
            values: Any = parse_json(text) if member.extension == "json" else {member.extension: from_cell(text)}
        except ValueError:
            raise ValueError(f"{sample.key}.{member.extension}") from None
        for name, value in (values if isinstance(values, dict) else {"json": values}).items():
            if isinstance(value, list | dict):
                ignored.add(name)
            else:
                labels[name] = value
    return labels


def _image_header(path: Path, key: str, pil_format: str, data: bytes) -> tuple[tuple[int, int], int]:
    try:
        with Image.open(BytesIO(data), formats=(pil_format,)) as image:
            height, width, mode = image.height, image.width, image.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{path}: the image of sample '{key}' is not a readable {pil_format}; {_REPACK}") from None
    if mode not in _CHANNELS_OF_MODE:
        raise UserError(f"{path}: the image of sample '{key}' is {mode}, neither RGB nor gray; {_REPACK}")
    return (height, width), _CHANNELS_OF_MODE[mode]


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def require_same(path: Path, key: str, what: str, expected: object, found: object) -> None:
    """Checks that an image has the size or codec of the others.

    Raises:
        UserError: It has not.
    """
    if expected != found:
        raise UserError(f"{path}: sample '{key}' has {what} {found} where others have {expected}; {_REPACK}")
