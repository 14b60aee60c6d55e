"""Every source that ``python -m shards.pack`` knows: one file and one line each."""

from shards.sources.base import SourceEntry
from shards.sources.casia_webface import CasiaWebfaceConfig, open_casia_webface
from shards.sources.celeba import CelebaConfig, CelebaSource
from shards.sources.fei import FeiConfig, open_fei
from shards.sources.folder import FolderConfig, FolderSource
from shards.sources.hf import HfConfig, HfSource
from shards.sources.lfw import LfwConfig, LfwSource
from shards.sources.olivetti import OlivettiConfig, OlivettiSource
from shards.sources.smiles import SmilesConfig, open_smiles
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource
from shards.sources.utkface import UtkfaceConfig, open_utkface

SOURCES: dict[str, SourceEntry] = {
    "synthetic": SourceEntry(SyntheticConfig, SyntheticSource),
    "folder": SourceEntry(FolderConfig, lambda config, size: FolderSource(config)),
    "lfw": SourceEntry(LfwConfig, lambda config, size: LfwSource(config)),
    "celeba": SourceEntry(CelebaConfig, lambda config, size: CelebaSource(config)),
    "utkface": SourceEntry(UtkfaceConfig, lambda config, size: open_utkface(config)),
    "casia_webface": SourceEntry(CasiaWebfaceConfig, lambda config, size: open_casia_webface(config)),
    "fei": SourceEntry(FeiConfig, lambda config, size: open_fei(config)),
    "smiles": SourceEntry(SmilesConfig, lambda config, size: open_smiles(config)),
    "hf": SourceEntry(HfConfig, lambda config, size: HfSource(config)),
    "olivetti": SourceEntry(OlivettiConfig, lambda config, size: OlivettiSource(config)),
}
