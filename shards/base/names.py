"""Many strings in little memory: two arrays instead of an object each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class Names(Sequence[str]):
    """An immutable list of strings, each at its bytes plus four or eight; a list takes about 100 more for each."""

    def __init__(self, names: Iterable[str]) -> None:
        """Copies the names; an iterator is read one by one."""
        text = bytearray()
        ends = np.fromiter(_append(text, names), np.int64)
        self._text = bytes(text)
        self._ends = np.concatenate([[0], ends]).astype(np.uint32 if len(text) < 2**32 else np.int64)

    @property
    def text(self) -> bytes:
        """All names in UTF-8, end to end."""
        return self._text

    @property
    def ends(self) -> np.ndarray:
        """Where each name ends in ``text``, int64 (N,)."""
        return self._ends[1:].astype(np.int64)

    def __len__(self) -> int:
        """Number of names."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> Names: ...
    def __getitem__(self, position: int | slice) -> str | Names:
        """The name at a position, or the names of a slice."""
        if isinstance(position, slice):
            return Names(self[place] for place in range(*position.indices(len(self))))
        if not -len(self) <= position < len(self):
            raise IndexError(f"name {position} of {len(self)}")
        position %= len(self)
        return self._text[self._ends[position] : self._ends[position + 1]].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        """The names in order."""
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same names in the same order."""
        if isinstance(other, Names):
            return self._text == other._text and np.array_equal(self._ends, other._ends)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


def hashes(names: Iterable[str], salt: str = "") -> np.ndarray:
    """64 bits of BLAKE2b of the salt and each name: uint64 (N,), the same on every machine."""
    digests = bytearray()
    for name in names:
        digests += hashlib.blake2b((salt + name).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.frombuffer(bytes(digests), ">u8")


def find_repeated(make_names: Callable[[], Iterable[str]]) -> set[str]:
    """The names that occur more than once.

    Args:
        make_names: Returns the same names at every call, so that they need not stay in memory.
    """
    values, counts = np.unique(hashes(make_names()), return_counts=True)
    suspicious = set(values[counts > 1].tolist())
    if not suspicious:
        return set()
    # Two names may share a hash by chance: counts the few candidates themselves.
    counted = Counter(name for name in make_names() if int(hashes([name])[0]) in suspicious)
    return {name for name, count in counted.items() if count > 1}


def _append(text: bytearray, names: Iterable[str]) -> Iterator[int]:
    """Appends each name and yields its end."""
    for name in names:
        text += name.encode("utf-8", "surrogateescape")
        yield len(text)
