"""FEI: 200 people, 14 original pictures of each, and two aligned frontal ones, neutral and smiling.

Source: Thomaz, Giraldi: A new ranking method for principal components analysis and its application to face image
analysis, Image and Vision Computing 28(6), 2010, https://fei.edu.br/~cet/facedatabase.html. The originals are called
``PERSON-POSE.jpg``: poses 1 to 10 turn the head from one profile to the other, 11 is frontal and neutral, 12 frontal
and smiling, 13 and 14 frontal under other light. Among the aligned ones ``PERSONa.jpg`` is neutral and
``PERSONb.jpg`` smiling; they count as poses 11 and 12.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shards.base.errors import UserError
from shards.base.names import Names
from shards.dataset.label_types import sorted_names
from shards.dataset.manifest import LabelField
from shards.sources.base import LabelValue, Published, PublishedFile, SourceEntry
from shards.sources.files.file_source import FileSource, short_key
from shards.sources.files.listing import list_files

NUM_PEOPLE, NUM_POSES = 200, 14
_NEUTRAL, _SMILING = 11, 12
_FILE = re.compile(r"(\d{1,3})(?:-(\d{2})|([ab]))\.(?:jpg|jpeg|png)", re.IGNORECASE)


@dataclass
class FeiConfig:
    """FEI face database, with person, pose and pairs of neutral and smiling."""

    input: Path
    """Folder of the originals (1-01.jpg), of the frontal pairs (1a.jpg, 1b.jpg) or of both, searched recursively."""


def open_fei(config: FeiConfig) -> FileSource:
    """Lists the images.

    Raises:
        UserError: No images with such names there.
    """
    files = Names(list_files(config.input)[0] if config.input.is_dir() else ())
    people = {labels["person"] for labels in map(labels_of, files) if labels}
    if not people:
        raise UserError(f"no FEI images below {config.input}: looked for PERSON-POSE.jpg, such as 1-01.jpg, or 1a.jpg.")
    return FileSource(
        "fei",
        config.input,
        files,
        short_key(files),
        labels_of,
        {
            "person": LabelField("class", sorted_names(map(str, people)), "FEI's number of the person"),
            "pose": LabelField("class", tuple(map(str, range(1, NUM_POSES + 1))), "1 to 10 from profile to profile"),
            "Smiling": LabelField("bool", description="in poses 11 (no) and 12 (yes) only"),
        },
        {"data_set": "FEI face database, https://fei.edu.br/~cet/facedatabase.html", "num_files": len(files)},
        identity_field="person",
    )


def labels_of(file: str) -> dict[str, LabelValue] | None:
    """Person, pose and, for the neutral and the smiling picture, the smile; None for a name of another form."""
    match = _FILE.fullmatch(file.rsplit("/", 1)[-1])
    if match is None:
        return None
    person = int(match[1])
    pose = int(match[2]) if match[2] else _NEUTRAL if match[3].lower() == "a" else _SMILING
    if not (1 <= person <= NUM_PEOPLE and 1 <= pose <= NUM_POSES):
        return None
    return {"person": str(person), "pose": str(pose), "Smiling": {_NEUTRAL: False, _SMILING: True}.get(pose)}


_SITE = "https://fei.edu.br/~cet/"
_TERMS = f"for research, not to be passed on; see {_SITE}facedatabase.html"
# FEI publishes no checksums.
_ORIGINALS = tuple(
    PublishedFile(name, f"{_SITE}{name}") for name in (f"originalimages_part{part}.zip" for part in (1, 2, 3, 4))
)
_FRONTAL = tuple(
    PublishedFile(name, f"{_SITE}{name}")
    for name in (f"frontalimages_spatiallynormalized_part{part}.zip" for part in (1, 2))
)

SOURCE = SourceEntry(
    FeiConfig,
    lambda config, size: open_fei(config),
    published={
        "fei": Published("fei", _ORIGINALS, _TERMS),
        "fei_frontal": Published("fei", _FRONTAL, _TERMS),
    },
)
