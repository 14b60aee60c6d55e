"""The weights and images that latents come from, stored with everything that is computed from them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import torch

from shards.base.errors import DamagedFile, Note, UserError
from shards.base.records import as_record, parse_json
from shards.dataset.dataset import Dataset
from shards.packing.framing import Framing


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
    framing: Framing | None = None
    """How the data set frames faces; None where that is not known."""

    @classmethod
    def of(cls, model: Any, dataset: Dataset, split: str) -> Origin:
        """The origin of a split's latents."""
        framing = Framing.of(dataset.manifest)
        return cls(snapshot_identity(model), model.name, str(model.images_seen), dataset.fingerprint, split, framing)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Origin:
        """Reads what ``metadata`` wrote.

        Raises:
            KeyError: An entry is missing.
            ValueError: The framing is not one.
        """
        texts = {name: metadata[name] for name in cls.__dataclass_fields__}
        framing = parse_json(texts.pop("framing"))
        try:
            return cls(**texts, framing=None if framing is None else as_record(framing, Framing, "", ""))
        except DamagedFile:
            raise ValueError from None

    def metadata(self) -> dict[str, str]:
        """As entries of a safetensors file."""
        fields = asdict(self)
        return {**fields, "framing": json.dumps(fields["framing"])}

    def other_framing(self, model: Any, path: str | PathLike[str]) -> str:
        """A sentence where the images of a file were framed otherwise than a model's training images; else empty."""
        if self.framing is None or model.framing is None or not model.framing.differs_from(self.framing):
            return ""
        return (
            f"the file {path} was fitted on {self.framing}, and {model.name} was trained on {model.framing}, where "
            "faces lie elsewhere; fit it again on data in the framing of the training data."
        )

    def check(self, model: Any, path: str | PathLike[str]) -> None:
        """Checks that a file belongs to a model, since latents of other weights lie in another space.

        Notes ``other_framing``.

        Raises:
            UserError: It was fitted on other weights.
        """
        if snapshot_identity(model) != self.snapshot:
            raise UserError(
                f"{path} was fitted on other weights (run {self.run} after {int(self.images_seen):,} images); "
                f"give that snapshot, or fit the file again with {model.name}."
            )
        note = self.other_framing(model, path)
        if note:
            warnings.warn(note, Note, stacklevel=2)


def snapshot_identity(model: Any) -> str:
    """24 hexadecimal digits that depend on the family and the weights alone, not on names or places of files."""
    digest = hashlib.sha256(model.family.encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # As bytes: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]
