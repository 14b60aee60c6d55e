"""Data sets on the Hub: pushed in one commit, read shard by shard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from hub_server import Hub, serving
from shards.base.errors import UserError
from shards.copy import copy
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE
from shards.dataset.mixture import open_dataset
from shards.loading.loader import evaluation_batches
from shards.push_data import PushDataConfig, main, push_data

NAME = "someone/faces"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "shards"))
    with serving(tmp_path / "cache") as running:
        yield running


def images_of(dataset: Dataset) -> np.ndarray:
    return np.concatenate([batch.images.numpy() for batch in evaluation_batches(dataset, "test", 16)])


def test_a_data_set_is_pushed_and_read_shard_by_shard(
    hub: Hub, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tiny_dataset), NAME, "--license", "cc0-1.0"])
    assert f"--data hub:{NAME}@" in capsys.readouterr().out
    repository = hub.repositories["dataset", NAME]
    assert len(repository.commits) == 2
    local = Dataset(tiny_dataset)
    names = {DATASET_FILE, INDEX_FILE, *(shard.name for shard in local.manifest.shards)}
    assert {name: repository.commits[1][name] for name in names} == {
        name: (tiny_dataset / name).read_bytes() for name in names
    }
    remote = open_dataset(f"hub:{NAME}")
    assert remote.fingerprint == local.fingerprint
    assert np.array_equal(images_of(remote), images_of(local))
    read = {name for name in hub.sent if name.endswith(".tar")}
    assert read == {shard.name for shard in local.shards("test")}


def test_an_older_revision_is_read_by_its_commit(hub: Hub, tiny_dataset: Path, other_dataset: Path) -> None:
    first = push_data(PushDataConfig(root=tiny_dataset, repository=NAME, sheet=False))
    push_data(PushDataConfig(root=other_dataset, repository=NAME, sheet=False))
    hub.repositories["dataset", NAME].tags["first/one"] = 1
    assert Dataset(str(first)).fingerprint == Dataset(tiny_dataset).fingerprint
    assert Dataset(f"hub:{NAME}@first/one").fingerprint == Dataset(tiny_dataset).fingerprint
    assert Dataset(f"hub:{NAME}").fingerprint == Dataset(other_dataset).fingerprint
    mixed = open_dataset(f"hub:{NAME}:0.5 + {tiny_dataset}:0.5")
    assert [part.fingerprint for part in mixed.parts] == [
        Dataset(path).fingerprint for path in (other_dataset, tiny_dataset)
    ]


def test_the_card_says_what_the_hub_reads(hub: Hub, tiny_dataset: Path) -> None:
    push_data(PushDataConfig(root=tiny_dataset, repository=NAME, license="cc0-1.0", private=True))
    repository = hub.repositories["dataset", NAME]
    assert repository.private and repository.commits[1]["sheet.png"].startswith(b"\x89PNG")
    card = repository.commits[1]["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc0-1.0" and metadata["size_categories"] == ["n<1K"]
    files = {item["split"]: item["path"] for item in metadata["configs"][0]["data_files"]}
    local = Dataset(tiny_dataset)
    assert files == {
        name: [shard.name for shard in local.shards(split)]
        for name, split in {"train": "train", "validation": "val", "test": "test"}.items()
    }
    assert local.fingerprint in card and str(tiny_dataset) not in card


def test_what_cannot_be_pushed_or_read(
    hub: Hub, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = Path(shutil.copytree(tiny_dataset, tmp_path / "damaged"))
    with open(next(damaged.glob("*.tar")), "r+b") as file:
        file.seek(700)
        file.write(b"x")
    with pytest.raises(UserError, match="is missing or damaged: its checksum differs; restore it"):
        push_data(PushDataConfig(root=damaged, repository=NAME))
    with pytest.raises(ValueError, match="an address, not a folder; copy it to a folder with"):
        PushDataConfig(root=Path("s3://bucket/faces"), repository=NAME)
    with pytest.raises(ValueError, match="the repository must be USER/NAME"):
        PushDataConfig(root=tiny_dataset, repository="faces")
    with pytest.raises(UserError, match="is written in one commit: python -m shards.push_data"):
        copy(tiny_dataset, f"hub:{NAME}")
    with pytest.raises(UserError, match=f"there is no hub:{NAME}/dataset.json"):
        Dataset(f"hub:{NAME}")
    with pytest.raises(UserError, match="'hub:faces' is not an address on the Hub"):
        Dataset("hub:faces")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="cannot be written without a token"):
        push_data(PushDataConfig(root=tiny_dataset, repository=NAME))
