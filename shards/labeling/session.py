"""The pictures of a labeling and their order for each subject: random, with some pictures shown twice."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shards.base.errors import UserError
from shards.base.files import write_json, writing_to
from shards.base.formats import Format
from shards.base.progress import tracked
from shards.base.records import read_record
from shards.images.reading import BadImage, open_image
from shards.packing.splits import hashed_order
from shards.sources.files.listing import first_few, list_files

SESSION_FILE = "session.json"
_SESSION = Format("labeling session", version=1, first=1)
_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MIN_GAP = 10
"""Fewest pictures between the two showings of a picture, if there are as many."""


@dataclass(frozen=True)
class Session:
    """What is labeled; fixed when the labeling begins.

    Attributes:
        files: Relative paths of the pictures.
        seed: Of the orders.
        repeats: Share of the pictures that are shown twice, to measure attention.
    """

    files: tuple[str, ...]
    seed: int
    repeats: float

    @property
    def num_trials(self) -> int:
        """Number of pictures that a subject sees, including repeats."""
        return len(self.files) + round(self.repeats * len(self.files))

    def order(self, subject: str) -> list[int]:
        """Positions in ``files`` in the order in which a subject sees them: a function of the session and the name.

        A repeat comes at a random position at least ten pictures later, if there are so many.
        """
        first = hashed_order(self.files, self.seed, f"label {subject}").tolist()
        num_repeats = self.num_trials - len(first)
        rng = np.random.default_rng([self.seed, *subject.encode()])
        # A repeat is inserted behind the first showing; the last pictures leave no room for one.
        candidates = first[: max(num_repeats, len(first) - _MIN_GAP)]
        order = list(first)
        for image in rng.permutation(candidates)[:num_repeats].tolist():
            earliest = min(order.index(image) + _MIN_GAP + 1, len(order))
            order.insert(int(rng.integers(earliest, len(order) + 1)), image)
        return order


def check_subject(name: str) -> str:
    """Checks the name of a subject, which becomes a file name.

    Raises:
        UserError: Other characters than letters, digits, ``_`` and ``-``, or more than 40.
    """
    if not _SUBJECT.fullmatch(name):
        raise UserError(f"'{name[:50]}' cannot name a subject: give 1 to 40 letters, digits, _ or -.")
    return name


def open_session(folder: Path, images: Path, seed: int, repeats: float) -> Session:
    """Begins a labeling of the pictures of a folder, or resumes the existing one.

    Args:
        folder: Of the labeling.
        images: Searched recursively. Unreadable pictures are named and left out.
        seed: Of the orders.
        repeats: Share of pictures that are shown twice.

    Raises:
        UserError: No pictures, or a labeling of other pictures, with other options, or of a newer version.
    """
    if not images.is_dir():
        raise UserError(f"{images} is not a folder; give the folder that holds the pictures.")
    files = list_files(images)[0]
    path = folder / SESSION_FILE
    if path.exists():
        session = read_record(path, Session, "restore it, or label into another folder", _SESSION)
        missing = sorted(set(session.files) - set(files))
        if missing:
            raise UserError(
                f"{len(missing)} pictures of this labeling are missing from {images} ({missing[0]}); restore them."
            )
        if (session.seed, session.repeats) != (seed, repeats):
            raise UserError(f"{folder} was begun with --seed {session.seed} --repeats {session.repeats:g}; pass these.")
        return session
    readable = [file for file in tracked(files, "checking", len(files), "pictures") if _is_readable(images / file)]
    if not readable:
        raise UserError(f"no readable pictures below {images}; give another folder.")
    if len(readable) < len(files):
        bad = sorted(set(files) - set(readable))
        print(f"{len(bad)} pictures cannot be read and are left out: {first_few(bad)}")
    session = Session(tuple(readable), seed, repeats)
    with writing_to(folder, "give another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, _SESSION.stamp(asdict(session)))
    return session


def _is_readable(path: Path) -> bool:
    try:
        open_image(path)
    except BadImage:
        return False
    return True
