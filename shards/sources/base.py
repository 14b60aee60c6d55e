"""The interface of a source: an ordered list of items with labels, a way to load the image of each, and downloads."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from shards.dataset.manifest import LabelField
from shards.images.reading import Crop

LabelValue = float | bool | str | None

FIGSHARE = "https://ndownloader.figshare.com/files/"
"""Where scikit-learn keeps its copies of published data sets."""


@dataclass(frozen=True)
class Item:
    """One image before packing.

    Attributes:
        key: Unique name in the source. Packing keeps it if it is short and made of letters, digits, ``_``, ``-`` and
            ``/``, and makes it safe otherwise (``shards.dataset.tar.member_key``).
        labels: A value for each field of the schema; None if it is missing.
        ref: What the source's ``load`` needs, such as a path; picklable.
        partition: The data set's own split (train, val, test), if it has one.
    """

    key: str
    labels: Mapping[str, LabelValue] = field(default_factory=dict)
    ref: Any = None
    partition: str | None = None


class Source(Protocol):
    """A data set that can be packed. Picklable, so that worker processes can load its images.

    One that lists millions of items may have a method ``without_listing()``: a copy that only loads, which is what
    workers get. One whose images come from a server may have an attribute ``num_readers``: how many threads load
    images at once.
    """

    @property
    def name(self) -> str:
        """The source's name on the command line."""
        ...

    @property
    def fields(self) -> dict[str, LabelField]:
        """Label schema."""
        ...

    @property
    def identity_field(self) -> str | None:
        """The class field that names the person: no person is in two splits. None without one."""
        ...

    @property
    def crop(self) -> Crop | None:
        """Default crop of the raw image; None for the largest centered square."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the images come from, for ``dataset.json``.

        The same for the same input, and without paths of this machine. A list under ``notes`` holds sentences that
        packing prints, such as how many labels match no image.
        """
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, position: int) -> Item:
        """The item at a position; the order is the same on every machine."""
        ...

    def load(self, item: Item) -> Image.Image | np.ndarray:
        """The item's image: a PIL image, or uint8 height x width x 3; bad input raises OSError or ValueError."""
        ...


def without_listing(source: Source) -> Source:
    """What workers need of a source, which load the items that they are given: by default all of it."""
    lean = getattr(source, "without_listing", None)
    return source if lean is None else lean()


def emptied(source: Any, **listing: Any) -> Any:
    """A shallow copy of a source in which other values stand for its listing."""
    lean = copy.copy(source)
    for name, value in listing.items():
        object.__setattr__(lean, name, value)
    return lean


@dataclass(frozen=True)
class PublishedFile:
    """One file; archives (``.tgz``, ``.tar.gz``, ``.tar``, ``.zip``) are unpacked.

    Attributes:
        name: File name on the disk.
        url: Where it is.
        sha256: Of its content, where one is published.
        md5: The same, where only this is published.
    """

    name: str
    url: str
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Published:
    """A data set that may be downloaded.

    Attributes:
        source: The source that packs it.
        files: What to download.
        terms: The terms of use.
    """

    source: str
    files: tuple[PublishedFile, ...]
    terms: str


@dataclass(frozen=True)
class SourceEntry:
    """What ``SOURCES`` knows of a source: its module calls this ``SOURCE``.

    Attributes:
        config_class: Dataclass of the source's options; a field ``input`` is taken by position.
        open: Makes the source from such options and the side of the packed images in pixels, which only sources that
            render need.
        published: What ``shards.fetch`` may download for it, by the name that the command takes.
        elsewhere: Where to get the images if nothing may be downloaded: a sentence without its full stop.
    """

    config_class: type
    open: Callable[[Any, int], Source]
    published: Mapping[str, Published] = field(default_factory=dict)
    elsewhere: str = ""

    @property
    def takes_input(self) -> bool:
        """Whether the source reads an input; a source that renders does not."""
        return any(option.name == "input" for option in dataclasses.fields(self.config_class))
