"""Images below a folder, or below an address such as ``s3://bucket/photos``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Protocol

from PIL import Image

from shards.base.errors import UserError
from shards.dataset.addresses import RemoteFolder, as_address
from shards.images.reading import IMAGE_SUFFIXES, BadImage, open_image, open_image_bytes
from shards.sources.files.label_table import LabelTable, parse_label_text, read_label_file
from shards.sources.files.listing import list_files
from shards.sources.files.shard_files import NUM_READERS


class Tree(Protocol):
    """Files by relative path, with ``/``; picklable."""

    num_readers: int
    """How many images are read at once."""

    def list(self, exclude: str | Path | None) -> tuple[list[str], list[str]]:
        """Sorted paths of the images and of all other files, but for one.

        Raises:
            UserError: It cannot be listed.
        """
        ...

    def open(self, file: str) -> Image.Image:
        """Opens an image.

        Raises:
            BadImage: As ``open_image``.
        """
        ...

    def find(self, file: Path) -> str | Path | None:
        """What ``table`` and ``list`` take for a file, which lies here or is given by a path of this machine."""
        ...

    def table(self, file: str | Path, key: str | None) -> LabelTable:
        """Reads a label file; arguments and errors as ``read_label_file``."""
        ...


class FolderTree:
    """A folder of this machine."""

    num_readers = 0

    def __init__(self, root: Path) -> None:
        """Checks that there is one.

        Raises:
            UserError: There is none.
        """
        if not root.is_dir():
            raise UserError(f"{root} is not a folder; give the folder that holds the images.")
        self._root = root

    def list(self, exclude: str | Path | None) -> tuple[list[str], list[str]]:
        """As ``Tree.list``."""
        return list_files(self._root, None if exclude is None else Path(exclude))

    def open(self, file: str) -> Image.Image:
        """As ``Tree.open``."""
        return open_image(self._root / file)

    def find(self, file: Path) -> Path | None:
        """As ``Tree.find``."""
        return next((path for path in (file, self._root / file) if path.is_file()), None)

    def table(self, file: str | Path, key: str | None) -> LabelTable:
        """As ``Tree.table``."""
        return read_label_file(Path(file), key)

    def __str__(self) -> str:
        return str(self._root)


class RemoteTree:
    """A place behind an address."""

    num_readers = NUM_READERS

    def __init__(self, address: str) -> None:
        """Connects to nothing yet.

        Raises:
            UserError: As ``RemoteFolder``.
        """
        self._files = RemoteFolder(address.rstrip("/"))

    def list(self, exclude: str | Path | None) -> tuple[list[str], list[str]]:
        """As ``Tree.list``."""
        images, others = [], []
        for file in sorted(self._files.sizes()):
            path = PurePosixPath(file)
            is_image = not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES
            if file != exclude:
                (images if is_image else others).append(file)
        return images, others

    def open(self, file: str) -> Image.Image:
        """As ``Tree.open``."""
        content = self._files.content(file)
        if content is None:
            raise BadImage("missing file")
        return open_image_bytes(content)

    def find(self, file: Path) -> str | Path | None:
        """As ``Tree.find``."""
        if file.is_file():
            return file
        return file.as_posix() if self._files.has(file.as_posix()) else None

    def table(self, file: str | Path, key: str | None) -> LabelTable:
        """As ``Tree.table``."""
        content = None if isinstance(file, Path) else self._files.content(file)
        if content is None:
            return read_label_file(Path(file), key)
        return parse_label_text(f"{self}/{file}", content, key)

    def __str__(self) -> str:
        return self._files.address


def open_tree(place: Path) -> Tree:
    """The tree at a folder or an address.

    Raises:
        UserError: There is no such folder, or the address cannot be opened.
    """
    address = as_address(place)
    return FolderTree(place) if address is None else RemoteTree(address)
