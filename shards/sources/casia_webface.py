"""CASIA-WebFace: 494,414 images of 10,575 people in the folders of their numbers, such as ``0000045/001.jpg``.

Source: Yi, Lei, Liao, Li: Learning Face Representation from Scratch, 2014, https://arxiv.org/abs/1411.7923. The images
are 250x250 with the face near the middle, placed and scaled less uniformly than LFW's: pack them with ``--align``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.base.names import Names
from shards.dataset.label_types import sorted_names
from shards.dataset.manifest import LabelField
from shards.sources.base import LabelValue, SourceEntry
from shards.sources.files.file_source import FileSource
from shards.sources.files.listing import find_tree, list_files, path_key, probe

_FILE = re.compile(r"(\d{3,})/\d{1,8}\.(jpg|jpeg|png)", re.IGNORECASE)


@dataclass
class CasiaWebfaceConfig:
    """CASIA-WebFace, with the person from the folder."""

    input: Path
    """Folder that holds the numbered folders of people, or one at most two levels above it."""


def open_casia_webface(config: CasiaWebfaceConfig) -> FileSource:
    """Lists the images.

    Raises:
        UserError: No such tree there.
    """
    tree = find_tree(config.input, _is_tree)
    if tree is None:
        raise UserError(
            f"no CASIA-WebFace tree at {config.input}: looked there and two levels down for PERSON/NUMBER.jpg, "
            "such as 0000045/001.jpg."
        )
    files = Names(list_files(tree)[0])
    people = sorted_names({match[1] for match in map(_FILE.fullmatch, files) if match})
    return FileSource(
        "casia_webface",
        tree,
        files,
        path_key,
        labels_of,
        {"identity": LabelField("class", people, "CASIA's number of the person")},
        {"data_set": "CASIA-WebFace, https://arxiv.org/abs/1411.7923", "tree": tree.name, "num_files": len(files)},
        identity_field="identity",
    )


def labels_of(file: str) -> dict[str, LabelValue] | None:
    """The person of a file; None for one in another place or with another name."""
    match = _FILE.fullmatch(file)
    return {"identity": match[1]} if match else None


def _is_tree(folder: Path) -> bool:
    return any(map(_FILE.fullmatch, probe(folder)))


SOURCE = SourceEntry(
    CasiaWebfaceConfig,
    lambda config, size: open_casia_webface(config),
    elsewhere="CASIA-WebFace is given to those who sign its agreement: see "
    "http://www.cbsr.ia.ac.cn/english/CASIA-WebFace-Database.html, unpack it, then run: python -m shards.pack "
    "casia_webface FOLDER OUTPUT",
)
