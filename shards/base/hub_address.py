"""Addresses on the Hugging Face Hub: ``hub:USER/NAME``, or ``hub:USER/NAME@REVISION``."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import quote

from shards.base.errors import UserError, shown

HUB = "hub:"
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""``USER/NAME``. The Hub has further rules, and checks them itself."""
_ADDRESS = re.compile(rf"{HUB}({REPOSITORY.pattern})(?:@([^@\s]+))?", re.ASCII)


class HubAddress(NamedTuple):
    """A repository in one of its revisions."""

    repository: str
    """``USER/NAME``."""
    revision: str | None = None
    """A branch, a tag or a commit; None for the main branch."""

    def url(self, kind: Literal["models", "datasets"]) -> str:
        """The address as fsspec takes it."""
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"hf://{kind}/{self.repository}{revision}"

    def __str__(self) -> str:
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_address(text: str) -> HubAddress | None:
    """Takes an address apart; None for what does not begin with ``hub:``.

    Raises:
        UserError: It begins so and is not an address.
    """
    if not text.startswith(HUB):
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UserError(f"{shown(text)} is not an address on the Hub; give hub:USER/NAME or hub:USER/NAME@REVISION.")
    return HubAddress(found[1], found[2])
