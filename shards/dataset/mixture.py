"""Several data sets as one: ``--data A --data B``, or ``--data A:0.7 --data B:0.3`` with weights."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from shards.base.errors import UserError
from shards.base.places import BETWEEN_PARTS
from shards.dataset.addresses import is_address
from shards.dataset.dataset import Dataset, Places
from shards.dataset.manifest import SPLITS, ImageFormat, LabelField, Manifest, Shard

_MAX_PERIOD = 10_000


def open_dataset(text: str) -> Dataset:
    """Opens a data set, or a mix of several.

    Args:
        text: A folder or an address, or several with `` + `` between them, each with ``:WEIGHT`` or none.

    Raises:
        UserError: As ``Dataset`` and ``Mixture``, or weights that are not positive or not given to every part.
    """
    places = [text] if os.path.exists(text) else text.split(BETWEEN_PARTS)
    if len(places) == 1:
        return Dataset(text)
    named = [_weighed(place) for place in places]
    weights = [Fraction(weight) for _, weight in named if weight]
    if weights and len(weights) < len(named):
        raise UserError(f"--data {text}: give every part a weight, or none.")
    return Mixture([Dataset(place) for place, _ in named], _whole_numbers(weights, text) if weights else None)


def absolute(text: str) -> str:
    """The same data sets, with folders of the current directory as absolute paths."""
    if os.path.exists(text) or BETWEEN_PARTS not in text:
        return text if is_address(text) else str(Path(text).resolve())
    named = [_weighed(place) for place in text.split(BETWEEN_PARTS)]
    return BETWEEN_PARTS.join(absolute(place) + (weight and f":{weight}") for place, weight in named)


class Mixture(Dataset):
    """Parts that are packed alike; in every split the shards, rows and labels of one follow those of the other.

    Labels are matched by name and classes by theirs; a label that a part lacks is missing for all its samples.

    Attributes:
        shares: Of how many slots of a period each part fills; None: as many as it has samples.
    """

    def __init__(self, parts: Sequence[Dataset], shares: Sequence[int] | None = None) -> None:
        """Joins the parts.

        Raises:
            UserError: Images of different shape or codec, a label of two kinds, or the same data set twice.
        """
        self._parts = tuple(parts)
        self.shares = None if shares is None else tuple(shares)
        self.address = BETWEEN_PARTS.join(part.address for part in parts)
        self.root = parts[0].root
        prints = [part.fingerprint for part in parts]
        if len(set(prints)) < len(prints):
            raise UserError(f"{self.address} names the same images twice; name each data set once.")
        self.manifest = Manifest(
            BETWEEN_PARTS.join(part.manifest.name for part in parts),
            _common_image(parts),
            _common_fields(parts),
            tuple(
                replace(shard, name=f"{number}/{shard.name}")
                for split in SPLITS
                for number, part in enumerate(parts)
                for shard in part.shards(split)
            ),
            {},
            _common_provenance(parts),
            next((name for part in parts if (name := part.manifest.identity_field)), None),
        )
        self.fingerprint = hashlib.sha256(repr((prints, self.shares)).encode()).hexdigest()[:16]
        self.mix = None
        for part in parts:
            part.mix = self.fingerprint
        self.remote = _Remotes(self) if any(part.remote for part in parts) else None  # type: ignore[assignment]

    @property
    def parts(self) -> tuple[Dataset, ...]:
        """The data sets."""
        return self._parts

    def column(self, name: str, split: str) -> np.ndarray:
        """One index column (``offset``, ``size``, ``crc32``) of a split."""
        return np.concatenate([part.column(name, split) for part in self.parts])

    def places(self, split: str, rows: np.ndarray) -> Places:
        """Where the images of some rows of a split lie."""
        found = [part.places(split, own) for part, own in self._own_rows(split, rows)]
        checksums = [places.crc32 for places in found if places.crc32 is not None]
        return Places(
            self._joined(split, rows, [places.offset for places in found]),
            self._joined(split, rows, [places.size for places in found]),
            self._joined(split, rows, checksums) if len(checksums) == len(found) else None,
        )

    def labels(self, name: str, split: str, rows: np.ndarray | None = None) -> np.ndarray:
        """One label column of a split, or its values in some rows of the split.

        Raises:
            UserError: A field that no part has.
        """
        if name not in self.fields:
            return super().labels(name, split)
        field = self.fields[name]
        if rows is None:
            return np.concatenate([_translated(part, name, split, field) for part in self.parts])
        found = [_translated(part, name, split, field, own) for part, own in self._own_rows(split, rows)]
        return self._joined(split, rows, found)

    def key(self, split: str, row: int) -> str:
        """The key of one sample; ``row`` counts within the split."""
        part = int(self._part_of(split, np.array([row]))[0])
        return self.parts[part].key(split, row - int(self._first_rows(split)[part]))

    def keys(self, split: str) -> list[str]:
        """The sample keys of a split, in index order; parts may share some."""
        return [key for part in self.parts for key in part.keys(split)]

    def _first_rows(self, split: str) -> np.ndarray:
        return np.cumsum([0, *(part.num_samples(split) for part in self.parts)])

    def _part_of(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Numbers of the parts to which some rows belong."""
        return np.searchsorted(self._first_rows(split), rows, side="right") - 1

    def _own_rows(self, split: str, rows: np.ndarray) -> list[tuple[Dataset, np.ndarray]]:
        """Of each part: those of the rows that are its own, as it counts them."""
        owners, firsts = self._part_of(split, rows), self._first_rows(split)
        return [(part, rows[owners == number] - firsts[number]) for number, part in enumerate(self.parts)]

    def _joined(self, split: str, rows: np.ndarray, found: Sequence[np.ndarray]) -> np.ndarray:
        """The values of the rows, from those of each part."""
        return np.concatenate(found)[np.argsort(np.argsort(self._part_of(split, rows), kind="stable"))]

    def check_index(self) -> None:
        """Reads the index of every part once.

        Raises:
            DamagedFile: One is missing or damaged.
        """
        for part in self.parts:
            part.check_index()

    def owner(self, shard: Shard) -> tuple[Dataset, Shard]:
        """The part that a shard belongs to, and the shard as that part names it."""
        number, _, name = shard.name.partition("/")
        return self.parts[int(number)], replace(shard, name=name)

    def open_shard(self, shard: Shard) -> int:
        """Opens a shard's file; the caller closes the descriptor.

        Raises:
            OSError: It is missing or unreadable.
            UserError: It cannot be fetched.
        """
        part, own = self.owner(shard)
        return part.open_shard(own)


class _Remotes:
    """What a loader asks of ``Dataset.remote``, for the parts that have one."""

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture

    def prefetch(self, shards: Iterable[Shard]) -> None:
        together: dict[int, list[Shard]] = defaultdict(list)
        for shard in shards:
            part, own = self._mixture.owner(shard)
            together[self._mixture.parts.index(part)].append(own)
        for number, own_shards in together.items():
            if remote := self._mixture.parts[number].remote:
                remote.prefetch(own_shards)

    def check_room(self, num_bytes: int, advice: str) -> None:
        remote = next(part.remote for part in self._mixture.parts if part.remote)
        remote.check_room(num_bytes, advice)


def _weighed(place: str) -> tuple[str, str]:
    """The place, and the number after its last colon, or nothing."""
    found = re.fullmatch(r"(.+):(\d+\.?\d*|\.\d+)", place)
    return (place, "") if found is None or os.path.exists(place) else (found[1], found[2])


def _whole_numbers(weights: Sequence[Fraction], text: str) -> list[int]:
    """Weights as whole numbers without a common divisor."""
    if min(weights) <= 0:
        raise UserError(f"--data {text}: a weight must be positive; leave a part out instead.")
    scale = math.lcm(*(weight.denominator for weight in weights))
    numbers = [int(weight * scale) for weight in weights]
    numbers = [number // math.gcd(*numbers) for number in numbers]
    if sum(numbers) > _MAX_PERIOD:
        raise UserError(f"--data {text}: the weights need too many digits; round them.")
    return numbers


def _common_image(parts: Sequence[Dataset]) -> ImageFormat:
    images = [part.image for part in parts]
    for part, image in zip(parts, images, strict=True):
        if replace(image, codec_options={}) != replace(images[0], codec_options={}):
            shapes = [f"{item.height}x{item.width}x{item.channels} {item.extension}" for item in (image, images[0])]
            raise UserError(
                f"{part.address} holds images of {shapes[0]} and {parts[0].address} of {shapes[1]}; pack one of them "
                "again as the other."
            )
    return images[0] if all(image == images[0] for image in images) else replace(images[0], codec_options={})


def _common_fields(parts: Sequence[Dataset]) -> dict[str, LabelField]:
    """Every label of any part; classes in the order of the parts."""
    fields: dict[str, LabelField] = {}
    for part in parts:
        for name, field in part.fields.items():
            known = fields.setdefault(name, field)
            if known.kind != field.kind:
                raise UserError(
                    f"label '{name}' is a {field.kind} in {part.address} and a {known.kind} in another part of the "
                    "mix; pack one of them with another name of the label."
                )
            fields[name] = replace(known, classes=tuple(dict.fromkeys(known.classes + field.classes)))
    return fields


def _common_provenance(parts: Sequence[Dataset]) -> dict[str, object]:
    """What says how faces are framed, where all parts say the same."""
    found = []
    for part in parts:
        options = part.manifest.provenance.get("options") or {}
        kept = {name: options[name] for name in ("crop", "align", "resize_filter") if name in options}
        found.append({"source": part.manifest.provenance.get("source"), "options": kept})
    return found[0] if all(item == found[0] for item in found) else {}


def _translated(part: Dataset, name: str, split: str, field: LabelField, rows: np.ndarray | None = None) -> np.ndarray:
    """A part's label column, or its values in some rows, with the classes of the mix."""
    if name not in part.fields:
        return np.full(part.num_samples(split) if rows is None else len(rows), field.missing, field.dtype)
    column = part.labels(name, split, rows)
    own = part.fields[name].classes
    if field.kind != "class" or own == field.classes[: len(own)]:
        return column
    position = {value: number for number, value in enumerate(field.classes)}
    return np.array([*(position[value] for value in own), -1], field.dtype)[column]
