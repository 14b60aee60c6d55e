"""How a run is named: ``RUN``, or ``RUN:SAMPLER`` for a run that samples with a sampler fitted to it.

``RUN`` may be on the Hub: ``hub:USER/NAME@REVISION``, or ``hub:USER/NAME@REVISION:SAMPLER``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from shards.base.errors import UserError, shown
from shards.base.hub_address import HUB
from shards.base.plain_files import is_plain_name

_SCHEME = re.compile(r"hf:|[A-Za-z][\w+.-]*://")
"""Addresses: the colon of a scheme is not that of a sampler."""


class RunName(NamedTuple):
    """A name, taken apart."""

    path: Path
    """Run directory, snapshot directory, repository, or address on the Hub."""
    sampler: str | None
    """Name of the sampler; None for the family's prior."""


def parse_run(name: str | os.PathLike[str]) -> RunName:
    """Takes a run's name apart; what exists under the whole name is a run without a sampler.

    Raises:
        UserError: An address that is not on the Hub.
    """
    text = os.fspath(name)
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{shown(text)} is not a path; give a run directory or a snapshot directory.")
    if os.path.lexists(text):
        return RunName(Path(text), None)
    if _SCHEME.match(text):
        raise UserError(
            f"{text} is an address, and runs are read from folders and the Hub; download it, then give its folder, or "
            "give hub:USER/NAME."
        )
    scheme = HUB if text.startswith(HUB) else ""
    path, colon, sampler = text.removeprefix(scheme).rpartition(":")
    if colon and is_plain_name(sampler):
        return RunName(Path(scheme + path), sampler)
    return RunName(Path(text), None)
