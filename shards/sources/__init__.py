"""Every source that ``python -m shards.pack`` knows: one file and one line each.

Plug-ins of the group ``facegen.sources`` come behind them.
"""

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module

from shards.base.errors import UserError
from shards.base.plugins import Registry
from shards.sources.base import SourceEntry


class _Own(Mapping[str, SourceEntry]):
    """Imports a source's module when the source is looked up, and takes its ``SOURCE``."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> SourceEntry:
        return import_module(f"{__name__}.{self._modules[name]}").SOURCE

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


_OWN = _Own(
    {
        "synthetic": "synthetic.source",
        "folder": "folder",
        "lfw": "lfw",
        "celeba": "celeba",
        "utkface": "utkface",
        "casia_webface": "casia_webface",
        "fei": "fei",
        "smiles": "smiles",
        "hf": "hf.source",
        "webdataset": "webdataset",
        "olivetti": "olivetti",
    }
)
SOURCES = Registry("facegen.sources", SourceEntry, _OWN)


def find_source(name: str) -> SourceEntry:
    """The source of a name.

    Raises:
        UserError: There is none; with the nearest name.
    """
    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(name, SOURCES, n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"the sources are {', '.join(SOURCES)}."
    raise UserError(f"there is no source '{name}'; {advice}")
