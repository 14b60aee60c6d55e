"""Format versions of files that outlive a release: newer files are refused in one sentence, older ones upgraded.

Each such file has one ``Format``. To change a file's content, raise its version and add the upgrade from the version
before: a function from the old content to the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.base.errors import DamagedFile, UserError, shown

Content = dict[str, Any]


class NewerFormat(UserError):
    """A file of a newer version of this program."""


@dataclass(frozen=True)
class Format:
    """The versions of one kind of file.

    Attributes:
        kind: What the file is, for messages, such as ``data set``.
        version: The version that this program writes.
        upgrades: By version, what turns the content of that version into that of the next one.
        first: The version of files that name none: they are older than the version number.
        key: Where the content names its version.
    """

    kind: str
    version: int
    upgrades: Mapping[int, Callable[[Content], Content]] = field(default_factory=dict)
    first: int | None = None
    key: str = "format_version"

    def __post_init__(self) -> None:
        """Checks that every older version can be read."""
        oldest = min([self.version, *self.upgrades] if self.first is None else [self.first])
        assert set(self.upgrades) == set(range(oldest, self.version)), "each older version has one upgrade"

    def stamp(self, content: Mapping[str, Any]) -> Content:
        """The content as it is written: with its version, in first place."""
        return {self.key: self.version, **content}

    def read(self, path: Path | str, content: Any, advice: str = "restore it from a copy") -> Content:
        """The content of a file, brought to the current version, without the version's key.

        Args:
            path: The file, for messages.
            content: What it holds.
            advice: What the user can do about a damaged one, as the end of the sentence.

        Raises:
            DamagedFile: Not an object, no version, or not the content that files of its version have.
            NewerFormat: A newer version.
        """
        if not isinstance(content, dict):
            raise DamagedFile(f"{path} does not hold a {self.kind}; {advice}.")
        version = content.get(self.key, self.first)
        if type(version) is not int or version < min([self.version, *self.upgrades]):
            raise DamagedFile(f"{path} names no known format version of a {self.kind} ({shown(version)}); {advice}.")
        if version > self.version:
            raise NewerFormat(
                f"{path} has format version {shown(version)} of a {self.kind}, and this facegen reads up to "
                f"{self.version}; install a newer facegen."
            )
        upgraded = {name: value for name, value in content.items() if name != self.key}
        for number in range(version, self.version):
            try:
                upgraded = self.upgrades[number](upgraded)
            except (
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ) as error:  # A part that every file of this version has.
                kind = f"{self.kind} of format version {number}"
                raise DamagedFile(f"{path} does not hold a {kind} ({shown(error)}); {advice}.") from None
        return upgraded
