"""``python -m shards.push_data DIR USER/NAME``: shares a packed data set on the Hugging Face Hub.

``--data hub:USER/NAME`` reads it there, shard by shard; so does every program that reads WebDataset shards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from shards.base.errors import UserError
from shards.base.hub_address import REPOSITORY, HubAddress
from shards.command_line.cli import parse, run
from shards.dataset.addresses import refuse_address
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE
from shards.dataset.tar import sha256_file
from shards.downloads.hub import upload
from shards.inspect import contact_sheet, describe

_SHEET = "sheet.png"
_REPLACED = ("*.tar", _SHEET)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Names of the Hub for numbers of images."""


@dataclass(kw_only=True)
class PushDataConfig:
    """Options of ``shards.push_data``."""

    root: Path
    """Folder of a complete data set."""
    repository: str
    """USER/NAME on the Hub; it is made if there is none."""
    license: str | None = None
    """License of the images, as the Hub calls it, such as cc-by-4.0."""
    private: bool = False
    """A new repository is private."""
    sheet: bool = True
    """Show images of each split in the data set card."""

    def __post_init__(self) -> None:
        """Rejects a name that no repository has."""
        if not REPOSITORY.fullmatch(self.repository):
            raise ValueError(f"the repository must be USER/NAME, not {self.repository}.")
        refuse_address(self.root, "copy it to a folder with python -m shards.copy first")


def push_data(config: PushDataConfig) -> HubAddress:
    """Checks every shard and pushes all of them in one commit.

    Raises:
        UserError: No such data set, a damaged file, no token, no permission, or no answer.
    """
    dataset = Dataset(config.root)
    dataset.check_index()
    for shard in dataset.manifest.shards:
        path = dataset.root / shard.name
        if not path.is_file() or sha256_file(path) != shard.sha256:
            raise UserError(f"{path} is missing or damaged: its checksum differs; restore it.")
    with tempfile.TemporaryDirectory(prefix="facegen-push-") as folder:
        card, sheet = Path(folder) / "README.md", Path(folder) / _SHEET
        card.write_text(data_card(dataset, config), encoding="utf-8")
        names = [INDEX_FILE, DATASET_FILE, *(shard.name for shard in dataset.manifest.shards)]
        files = {card.name: card, **{name: dataset.root / name for name in names}}
        if config.sheet:
            contact_sheet(dataset).save(sheet, "PNG")
            files[_SHEET] = sheet
        title = f"{dataset.manifest.name}, fingerprint {dataset.fingerprint}"
        return upload(config.repository, "dataset", files, private=config.private, message=title, replaced=_REPLACED)


def data_card(dataset: Dataset, config: PushDataConfig) -> str:
    """The content of ``README.md``: what the Hub reads, how to train on it, and what the data set holds."""
    num_images = sum(dataset.num_samples(split) for split in dataset.splits)
    size = next((name for limit, name in _SIZES if num_images < limit), "n>1M")
    files = [
        {"split": _split(split), "path": [item.name for item in dataset.shards(split)]} for split in dataset.splits
    ]
    metadata = {
        **({"license": config.license} if config.license else {}),
        "pretty_name": dataset.manifest.name,
        "tags": ["facegen", "faces", "webdataset"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    facts = describe(dataset)
    facts[0] = facts[0].removeprefix(f"{dataset.address}: ")  # A card does not say where the data set is.
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---",
        f"# {config.repository.partition('/')[2]}",
        f"```sh\npip install 'facegen[hub]'\nfacegen train vae --data hub:{config.repository} --run runs/vae\n```",
        *([f"![Images of each split]({_SHEET})"] if config.sheet else []),
        "```text\n" + "\n".join(facts) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _split(split: str) -> str:
    """What the Hub calls a split."""
    return "validation" if split == "val" else split


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        PushDataConfig,
        prog="python -m shards.push_data",
        description="Shares a packed data set on the Hugging Face Hub, with a card.",
        positional=("root", "repository"),
        args=args,
    )
    address = push_data(config)
    print(f"train on it with: --data {address}")


if __name__ == "__main__":
    run(main)
