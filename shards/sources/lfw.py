"""Labeled Faces in the Wild: the raw tree ``lfw-deepfunneled/<Person>/<Person>_0001.jpg`` of 250x250 images.

Source: http://vis-www.cs.umass.edu/lfw/. The default crop is LFWcrop's (Sanderson & Lovell, ICB 2009,
http://conradsanderson.id.au/lfwcrop/): the box with the corner pixels (83, 92) and (166, 175), both included: 84x84
pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.base.errors import UserError
from shards.base.names import Names
from shards.dataset.manifest import LabelField
from shards.images.reading import Crop
from shards.sources.base import FIGSHARE, LabelValue, Published, PublishedFile, SourceEntry
from shards.sources.files.file_source import FileSource
from shards.sources.files.listing import find_tree, listing, probe

LFWCROP_BOX: Crop = (83, 92, 167, 176)
_NAME = re.compile(r"(.+)_\d{4}\.(jpg|jpeg|png|ppm|pgm)", re.IGNORECASE)


@dataclass
class LfwConfig:
    """Labeled Faces in the Wild, raw tree; cropped as LFWcrop is."""

    input: Path
    """Folder that holds lfw-deepfunneled (or lfw, lfw-funneled), at most two levels down, or that tree itself."""


def open_lfw(config: LfwConfig) -> FileSource:
    """Lists the images person by person; the key is the file's stem, as ``pairs.txt`` uses it.

    Raises:
        UserError: No such tree there.
    """
    tree = find_tree(config.input, _is_tree)
    if tree is None:
        raise UserError(
            f"no LFW tree at {config.input}: looked there and two levels down for <Person>/<Person>_0001.jpg, "
            "such as lfw-deepfunneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg."
        )
    files = Names(_list_images(tree))
    people = tuple(dict.fromkeys(map(person_of, files)))
    return FileSource(
        "lfw",
        tree,
        files,
        _stem,
        labels_of,
        {"identity": LabelField("class", people, "name of the person")},
        {
            "data_set": "Labeled Faces in the Wild, http://vis-www.cs.umass.edu/lfw/",
            "tree": tree.name,
            "num_files": len(files),
        },
        identity_field="identity",
        crop=LFWCROP_BOX,
    )


def labels_of(file: str) -> dict[str, LabelValue]:
    """The person, whose name is that of the folder."""
    return {"identity": person_of(file)}


def person_of(file: str) -> str:
    """The folder of a file."""
    return file.split("/", 1)[0]


def _list_images(tree: Path) -> Iterator[str]:
    """Folder by folder: a published order, which sorting the paths would change (``Ann_Lee/`` before ``Ann/``)."""
    with listing(tree):
        for person in sorted(entry.name for entry in os.scandir(tree) if entry.is_dir()):
            yield from (f"{person}/{name}" for name in sorted(os.listdir(tree / person)) if _NAME.fullmatch(name))


def _stem(file: str) -> str:
    return PurePosixPath(file).stem


def _is_tree(folder: Path) -> bool:
    """Whether one of the first sub-folders holds an image named after it."""
    for person, name in (path.split("/") for path in probe(folder)):
        match = _NAME.fullmatch(name)
        if match and match[1] == person:
            return True
    return False


# The copies and checksums that scikit-learn maintains: the host of the University of Massachusetts is gone, and with it
# the deep-funneled images, of which no maintained copy exists.
_TERMS = (
    "for research; see Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, UMass Amherst TR 07-49, 2007"
)
_PAIRS = PublishedFile(
    "pairs.txt", f"{FIGSHARE}5976006", sha256="ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592"
)
_ORIGINAL = (
    PublishedFile(
        "lfw.tgz", f"{FIGSHARE}5976018", sha256="055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0"
    ),
    _PAIRS,
)
_FUNNELED = (
    PublishedFile(
        "lfw-funneled.tgz",
        f"{FIGSHARE}5976015",
        sha256="b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
    ),
    _PAIRS,
)

SOURCE = SourceEntry(
    LfwConfig,
    lambda config, size: open_lfw(config),
    published={
        "lfw": Published("lfw", _ORIGINAL, _TERMS),
        "lfw_funneled": Published("lfw", _FUNNELED, _TERMS),
    },
)
