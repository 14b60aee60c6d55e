"""Which picture a subject sees when: a random order of its own, with some pictures shown a second time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shards.base.errors import UserError
from shards.base.files import write_json
from shards.images.reading import BadImage, open_image
from shards.packing.splits import hashed_order
from shards.sources.listing import list_files

SESSION_FILE = "session.json"
_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NUM_NAMED = 10
_MIN_GAP = 10
"""Least number of pictures between the two times that a picture is shown, where there are as many."""


@dataclass(frozen=True)
class Session:
    """What is labeled, fixed when the labeling begins.

    Attributes:
        files: Relative paths of the pictures.
        seed: Of the orders.
        repeats: Share of the pictures that are shown twice, to see whether a subject pays attention.
    """

    files: tuple[str, ...]
    seed: int
    repeats: float

    @property
    def num_trials(self) -> int:
        """How many pictures a subject sees, repeats included."""
        return len(self.files) + round(self.repeats * len(self.files))

    def order(self, subject: str) -> list[int]:
        """Positions in ``files`` in the order in which a subject sees them: a function of the session and the name.

        Repeats come at random places at least ten pictures later, where there are so many pictures.
        """
        first = hashed_order(self.files, self.seed, f"label {subject}").tolist()
        num_repeats = self.num_trials - len(first)
        rng = np.random.default_rng([self.seed, *subject.encode()])
        # Each repeat is put in behind its first time; the last pictures have no room behind them.
        candidates = first[: max(num_repeats, len(first) - _MIN_GAP)]
        order = list(first)
        for image in rng.permutation(candidates)[:num_repeats].tolist():
            earliest = min(order.index(image) + _MIN_GAP + 1, len(order))
            order.insert(int(rng.integers(earliest, len(order) + 1)), image)
        return order


def check_subject(name: str) -> str:
    """A subject's name, which becomes a file name.

    Raises:
        UserError: Other characters than letters, digits, ``_`` and ``-``, or more than 40.
    """
    if not _SUBJECT.fullmatch(name):
        raise UserError(f"'{name[:50]}' cannot name a subject: give 1 to 40 letters, digits, _ or -.")
    return name


def open_session(folder: Path, images: Path, seed: int, repeats: float) -> Session:
    """Begins a labeling of the pictures of a folder, or goes on with the one that is there.

    Args:
        folder: Of the labeling.
        images: Searched recursively. Pictures that cannot be read are left out, named.
        seed: Of the orders.
        repeats: Share of pictures that are shown twice.

    Raises:
        UserError: No pictures, or a labeling of others or with other options.
    """
    if not images.is_dir():
        raise UserError(f"{images} is no folder; give the folder that holds the pictures.")
    files = list_files(images)[0]
    path = folder / SESSION_FILE
    if path.exists():
        session = _read(path)
        missing = sorted(set(session.files) - set(files))
        if missing:
            raise UserError(f"{len(missing)} pictures of this labeling are not in {images} any more ({missing[0]}).")
        if (session.seed, session.repeats) != (seed, repeats):
            raise UserError(f"{folder} was begun with --seed {session.seed} --repeats {session.repeats:g}; give these.")
        return session
    readable = [
        file for file in tqdm(files, desc="looking", unit=" pictures", disable=None) if _is_readable(images / file)
    ]
    if not readable:
        raise UserError(f"no pictures that can be read below {images}.")
    if len(readable) < len(files):
        bad = sorted(set(files) - set(readable))
        more = ", ..." if len(bad) > _NUM_NAMED else ""
        print(f"{len(bad)} pictures cannot be read and are left out: {', '.join(bad[:_NUM_NAMED])}{more}")
    session = Session(tuple(readable), seed, repeats)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(session))
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); give another folder.") from None
    return session


def _read(path: Path) -> Session:
    try:
        content = json.loads(path.read_text())
        return Session(tuple(content["files"]), content["seed"], content["repeats"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; restore it, or label into another folder.") from None


def _is_readable(path: Path) -> bool:
    try:
        open_image(path)
    except BadImage:
        return False
    return True
