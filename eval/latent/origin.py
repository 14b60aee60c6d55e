"""The weights and images that latents come from, stored with everything that is computed from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import torch

from shards.base.errors import UserError
from shards.dataset.dataset import Dataset


@dataclass(frozen=True)
class Origin:
    """The snapshot and the images that something was fitted on."""

    snapshot: str
    """As ``snapshot_identity`` returns it."""
    run: str
    images_seen: str
    """Of the snapshot."""
    fingerprint: str
    """Of the data set."""
    split: str

    @classmethod
    def of(cls, model: Any, dataset: Dataset, split: str) -> Origin:
        """The origin of a split's latents."""
        return cls(snapshot_identity(model), model.name, str(model.images_seen), dataset.fingerprint, split)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Origin:
        """Reads what ``metadata`` wrote.

        Raises:
            KeyError: An entry is missing.
        """
        return cls(**{name: metadata[name] for name in cls.__dataclass_fields__})

    def metadata(self) -> dict[str, str]:
        """As entries of a safetensors file."""
        return asdict(self)

    def check(self, model: Any, path: str | PathLike[str]) -> None:
        """Checks that a file belongs to a model, since latents of other weights lie in another space.

        Raises:
            UserError: It was fitted on other weights.
        """
        if snapshot_identity(model) != self.snapshot:
            raise UserError(
                f"{path} was fitted on other weights (run {self.run} after {int(self.images_seen):,} images); "
                f"give that snapshot, or fit the file again with {model.name}."
            )


def snapshot_identity(model: Any) -> str:
    """24 hexadecimal digits that depend on the family and the weights alone, not on names or places of files."""
    digest = hashlib.sha256(model.family.encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]
