"""Files of what was fitted to latents: safetensors with the origin of the latents and a format version as metadata.

Version 2 added to the origin how the images frame faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from eval.latent.origin import Origin
from shards.base.errors import DamagedFile, UserError
from shards.base.files import save_tensors
from shards.base.formats import Format


@dataclass(frozen=True)
class FittedFile:
    """One kind of such files.

    Attributes:
        kind: What the file is, for messages.
        tensors: Names of the tensors that are read, and how many dims each has.
        texts: Names of the metadata that are read, beside the origin.
        command: Makes such a file.
    """

    kind: str
    tensors: Mapping[str, int]
    command: str
    texts: tuple[str, ...] = ()

    @property
    def format(self) -> Format:
        """Its versions; files of release 0.1 name none and have version 1."""
        return Format(self.kind, version=2, first=1, upgrades={1: lambda metadata: {**metadata, "framing": "null"}})

    def metadata(self, origin: Origin, texts: Mapping[str, str] | None = None) -> dict[str, str]:
        """The metadata as it is written: the format version, the origin, and texts."""
        stamped = self.format.stamp({**origin.metadata(), **(texts or {})})
        return {name: str(value) for name, value in stamped.items()}

    def save(
        self, path: Path, tensors: Mapping[str, np.ndarray], origin: Origin, texts: Mapping[str, str] | None = None
    ) -> None:
        """Writes a file.

        Raises:
            UserError: Nothing can be written there.
        """
        save_tensors(path, tensors, self.metadata(origin, texts))

    def load(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], Origin]:
        """Reads tensors, texts and origin.

        Raises:
            UserError: Not such a file, or one that a newer facegen wrote.
        """
        try:
            with safe_open(path, framework="np") as file:
                metadata = read_version(self.format, path, file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in self.tensors}
            if any(tensors[name].ndim != dims for name, dims in self.tensors.items()):
                raise KeyError
            return tensors, {name: metadata[name] for name in self.texts}, Origin.from_metadata(metadata)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise self.damaged(path) from None

    def damaged(self, path: Path) -> DamagedFile:
        """The error of a file whose content does not fit together."""
        return DamagedFile(f"{path} is not a readable {self.kind}; make one with: {self.command}")


def read_version(format_: Format, path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a safetensors file, whose values are all text, brought to the current version.

    Raises:
        UserError: A version that this program does not know.
    """
    version = metadata.get(format_.key, str(format_.first))[:20]  # An upload may hold any text.
    return format_.read(path, {**metadata, format_.key: int(version) if version.isdecimal() else version})
