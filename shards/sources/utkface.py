"""UTKFace: faces from 0 to 116 years, with age, gender and race in each file's name.

Source: Zhang, Song, Qi: Age Progression/Regression by Conditional Adversarial Autoencoder, CVPR 2017,
https://susanqq.github.io/UTKFace/. A name is ``AGE_GENDER_RACE_DATE.jpg`` (``.chip.jpg`` where aligned and cropped);
a few names in the published archives lack one of the numbers.

A CSV of smile degrees (``stimulus_filename,avg_encode``, the format of the SmileCVAE's authors and of
``shards.label``) becomes the label ``smile``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shards.base.errors import UserError
from shards.base.names import Names
from shards.dataset.manifest import LabelField
from shards.sources.base import LabelValue, SourceEntry
from shards.sources.files.degree_table import read_degrees
from shards.sources.files.file_source import FileSource, name_key, short_key
from shards.sources.files.listing import list_files

MAX_AGE = 116
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d{8,}(\.jpg)?(\.chip)?\.(jpg|jpeg|png)", re.IGNORECASE)


@dataclass
class UtkfaceConfig:
    """UTKFace, with age, gender and race from the file names."""

    input: Path
    """Folder of the images, searched recursively."""
    degrees: Path | None = None
    """CSV of smile degrees, stimulus_filename,avg_encode, as python -m shards.label writes it; becomes the label
    smile. Looked for as given, then inside the folder."""


def open_utkface(config: UtkfaceConfig) -> FileSource:
    """Lists the images.

    Raises:
        UserError: No images with such names there, or degrees that match none of them.
    """
    files = Names(list_files(config.input)[0] if config.input.is_dir() else ())
    num_bad = sum(labels_of(file) is None for file in files)
    if num_bad == len(files):
        raise UserError(
            f"no UTKFace images below {config.input}: looked for AGE_GENDER_RACE_DATE.jpg, "
            "such as 26_1_2_20170104023102422.jpg.chip.jpg."
        )
    fields = {
        "age": LabelField("float", description="years"),
        "gender": LabelField("class", GENDERS),
        "Male": LabelField("bool", description="the gender, under the name of CelebA's attribute"),
        "race": LabelField("class", RACES),
    }
    degrees: dict[str, float] = {}
    notes: list[str] = []
    if config.degrees is not None:
        degrees, notes = read_degrees(config.degrees, config.input, files)
        fields["smile"] = LabelField("float", description="degree of smile, -1 to 1")
    provenance: dict[str, Any] = {
        "data_set": "UTKFace, https://susanqq.github.io/UTKFace/",
        "num_files": len(files),
        "notes": notes,
    }
    return FileSource(
        "utkface",
        config.input,
        files,
        short_key(files),
        partial(labels_of, degrees=degrees) if config.degrees is not None else labels_of,
        fields,
        provenance,
    )


def labels_of(file: str, degrees: Mapping[str, float] | None = None) -> dict[str, LabelValue] | None:
    """The labels of a file; None for a name of another form.

    Args:
        file: Its path.
        degrees: Smile degrees by ``name_key``; None for no label ``smile``.
    """
    match = _NAME.fullmatch(file.rsplit("/", 1)[-1])
    if match is None or int(match[1]) > MAX_AGE:
        return None
    gender = GENDERS[int(match[2])]
    labels: dict[str, LabelValue] = {
        "age": float(match[1]),
        "gender": gender,
        "Male": gender == "male",
        "race": RACES[int(match[3])],
    }
    return labels if degrees is None else {**labels, "smile": degrees.get(name_key(file))}


SOURCE = SourceEntry(
    UtkfaceConfig,
    lambda config, size: open_utkface(config),
    elsewhere="UTKFace is for non-commercial research and lies on a drive that asks you to sign in: get UTKFace.tar.gz "
    "(aligned and cropped) at https://susanqq.github.io/UTKFace/, unpack it, then run: python -m shards.pack utkface "
    "FOLDER OUTPUT",
)
