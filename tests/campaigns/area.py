"""What a campaign attacks: an area draws changes of a good input, makes them, and uses the result."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple


class Change(NamedTuple):
    """One thing that is done to a good input; JSON, so that a table of findings can hold it."""

    kind: str
    """What is done, such as ``set``; each area has its own."""
    where: str
    """A file, a field or an option."""
    value: Any = None

    def __str__(self) -> str:
        """The change in one line of bounded length."""
        text = repr(self.value)
        return f"{self.kind} {self.where} {text if len(text) <= 80 else f'{text[:70]}... ({len(text)} characters)'}"


class Case(NamedTuple):
    """One attack."""

    use: str
    """What is done with the input; one of the area's ``uses``."""
    changes: Sequence[Change]

    def __str__(self) -> str:
        """The case in one line."""
        return "; ".join([self.use, *map(str, self.changes)])


class Area(ABC):
    """One row of the table. Made once; ``use`` then runs once a case."""

    title: ClassVar[str]
    uses: ClassVar[Sequence[str]]
    """What is done with the input, more often what stands there more often."""
    max_mib: ClassVar[int] = 400
    """Most memory that one case may add to the process at its peak."""

    def __init__(self, home: Path, bait: Path) -> None:
        """Makes the good input.

        Args:
            home: Folder for it.
            bait: Folder beside the given ones, with a file ``secret``. Hostile paths lead here; nothing may read or
                write it.
        """
        self.home, self.bait = home, bait
        self.writes: tuple[Path, ...] = ()

    @abstractmethod
    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """The changes of one case."""

    @abstractmethod
    def use(self, folder: Path, case: Case) -> Any:
        """Copies the good input to ``folder``, changes it, and uses it as a person would.

        Returns:
            What came of it, comparable by ``==``.

        Raises:
            UserError: The input is refused.
        """

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """Whether a result is right.

        Args:
            good: The result of the same use without changes.
            found: The result with them.
            said: What was printed and warned meanwhile.
            case: The case.
        """
        return found == good

    def close(self) -> None:  # noqa: B027 - most areas have nothing to close
        """Stops what the area started."""
