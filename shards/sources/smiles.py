"""SMILEs: gray faces of 64x64 pixels in the folders ``positives`` (smiling) and ``negatives``.

Source: https://github.com/hromi/SMILEsmileD. Some labels are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.base.names import Names
from shards.dataset.manifest import LabelField
from shards.sources.base import LabelValue, Published, PublishedFile, SourceEntry
from shards.sources.files.file_source import FileSource
from shards.sources.files.listing import find_tree, list_files, path_key

_SMILING = {"positives": True, "negatives": False}


@dataclass
class SmilesConfig:
    """SMILEs, with smile or no smile from the folder; pack it with --channels 1, since it is gray."""

    input: Path
    """Folder that holds positives and negatives, or one at most two levels above it."""


def open_smiles(config: SmilesConfig) -> FileSource:
    """Lists the images.

    Raises:
        UserError: No such folders there, or no images in them.
    """
    tree = find_tree(config.input, lambda folder: all((folder / name).is_dir() for name in _SMILING))
    if tree is None:
        raise UserError(f"no SMILEs at {config.input}: looked there and two levels down for positives and negatives.")
    files = Names(f"{name}/{file}" for name in _SMILING for file in list_files(tree / name)[0])
    if not files:
        raise UserError(f"the folders positives and negatives in {tree} hold no images; fetch them again.")
    return FileSource(
        "smiles",
        tree,
        files,
        path_key,
        labels_of,
        {"Smiling": LabelField("bool", description="from the folder; some are wrong")},
        {"data_set": "SMILEs, https://github.com/hromi/SMILEsmileD", "num_files": len(files)},
    )


def labels_of(file: str) -> dict[str, LabelValue]:
    """Whether the folder says that the face smiles."""
    return {"Smiling": _SMILING[file.split("/", 1)[0]]}


# Its authors publish no checksum.
_FILE = PublishedFile("SMILEsmileD.zip", "https://github.com/hromi/SMILEsmileD/archive/refs/heads/master.zip")

SOURCE = SourceEntry(
    SmilesConfig,
    lambda config, size: open_smiles(config),
    published={"smiles": Published("smiles", (_FILE,), "see https://github.com/hromi/SMILEsmileD")},
)
