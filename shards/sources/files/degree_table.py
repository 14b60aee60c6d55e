"""A CSV of smile degrees beside images: ``stimulus_filename,avg_encode``, degrees from -1 to 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from shards.base.errors import UserError
from shards.dataset.label_types import Scalar, as_number
from shards.sources.files.file_source import name_key
from shards.sources.files.label_table import read_label_file

FILE_COLUMN, DEGREE_COLUMN = "stimulus_filename", "avg_encode"


def read_degrees(path: Path, folder: Path, files: Iterable[str]) -> tuple[dict[str, float], list[str]]:
    """Reads the degrees of images; a row names its image by the file name up to the first dot.

    A degree given to ``x.jpg`` is therefore also that of ``x.jpg.chip.jpg``, the same face cropped.

    Args:
        path: The CSV, as given or inside ``folder``.
        folder: Where the images lie.
        files: Relative paths of the images.

    Returns:
        Degrees by ``name_key`` of the image, and sentences about what did not match.

    Raises:
        UserError: No such file or columns, a degree outside [-1, 1], two rows for an image, two images for a row, or
            no match at all.
    """
    found = next((candidate for candidate in (path, folder / path) if candidate.is_file()), None)
    if found is None:
        raise UserError(f"there is no file of degrees {path}, neither here nor in {folder}; give its path.")
    table = read_label_file(found, FILE_COLUMN)
    if DEGREE_COLUMN not in table.columns:
        raise UserError(f"{found} has no column '{DEGREE_COLUMN}'; it has {', '.join(table.columns)}.")
    degrees: dict[str, float] = {}
    for name, row in zip(table.names, table.rows, strict=True):
        key = name_key(name.strip())
        if key in degrees:
            raise UserError(f"{found} has two rows for {name}; keep one.")
        degrees[key] = _degree(row.get(DEGREE_COLUMN), found, name)
    images = Counter(key for key in map(name_key, files) if key in degrees)
    if not images:
        raise UserError(f"no row of {found} names one of the images (first: '{table.names[0]}').")
    key, num_images = images.most_common(1)[0]
    if num_images > 1:
        raise UserError(f"'{key}' in {found} matches {num_images} images; give a folder that holds the data set once.")
    notes = []
    if len(images) < len(degrees):
        notes.append(f"{len(degrees) - len(images)} rows of {found.name} match no image.")
    notes.append(f"{len(images)} images have a degree of smile.")
    return degrees, notes


def _degree(value: Scalar, path: Path, name: str) -> float:
    degree = as_number(value)
    if degree is None or not -1 <= degree <= 1:
        raise UserError(f"{path}: {DEGREE_COLUMN} of {name} is {value}, not a number from -1 to 1; fix the file.")
    return degree
