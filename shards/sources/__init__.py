"""Every source that ``python -m shards.pack`` knows: one file and one line each."""

from shards.sources.base import SourceEntry
from shards.sources.celeba import CelebaConfig, CelebaSource
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.lfw import LfwConfig, LfwSource
from shards.sources.synthetic import SyntheticConfig, SyntheticSource

SOURCES: dict[str, SourceEntry] = {
    "synthetic": SourceEntry(SyntheticConfig, SyntheticSource),
    "folder": SourceEntry(FolderConfig, lambda config, size: FolderSource(config)),
    "lfw": SourceEntry(LfwConfig, lambda config, size: LfwSource(config)),
    "celeba": SourceEntry(CelebaConfig, lambda config, size: CelebaSource(config)),
}
