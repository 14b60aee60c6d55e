"""Files that a data set or a run names: nothing outside its folder is touched, and nothing waits for a pipe."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import unreliable_server
from facegen.runs.checkpoint import MARKER, damage, write_complete
from facegen.samplers.fitted import check_name, load_sampler
from shards.base.errors import UserError
from shards.base.plain_files import is_shard_name, open_plain
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import DATASET_FILE, INDEX_FILE
from shards.index import index, verify
from shards.loading.reader import Reader

OUTSIDE = (
    "../../victim.tar",
    "/etc/victim.tar",
    "..tar",
    ".hidden.tar",
    "a/b.tar",
    "train.tar\n",
    "sitecustomize.py",
    "",
)


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "data"))


@pytest.fixture
def served(dataset: Path) -> Iterator[str]:
    with unreliable_server.serving(dataset) as running:
        yield running.url


def rename_shard(root: Path, name: object, number: int = 0) -> None:
    content = json.loads((root / DATASET_FILE).read_text())
    content["shards"][number]["name"] = name
    (root / DATASET_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_of_shards_that_lead_elsewhere(dataset: Path, name: object) -> None:
    rename_shard(dataset, name)
    with pytest.raises(UserError, match="names a shard .* no leading dot, and ends with .tar"):
        Dataset(dataset)


def test_two_shards_of_one_name(dataset: Path) -> None:
    rename_shard(dataset, Dataset(dataset).manifest.shards[1].name)
    with pytest.raises(UserError, match="more than once"):
        Dataset(dataset)


def test_a_data_set_behind_an_address_writes_nothing_outside_its_cache(
    dataset: Path, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    # A file that the server has, under a name that leads out of the cache.
    (dataset / "payload").write_text("print('run by whoever starts python here')")
    rename_shard(dataset, "../../../payload")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    with pytest.raises(UserError, match="names a shard"):
        Dataset(served)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert not [path for path in (tmp_path / "cache").rglob("payload*")]


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device"])
def test_only_plain_files_are_shards(dataset: Path, kind: str) -> None:
    shard = dataset / Dataset(dataset).shards("train")[0].name
    content = shard.with_suffix(".moved")
    shard.rename(content)
    replace(shard, content, kind)
    with pytest.raises(UserError, match="cannot be read"):
        Reader(Dataset(dataset), "train")
    assert [finding for finding in verify(Dataset(dataset)) if str(shard) in finding]
    with pytest.raises(UserError, match="cannot be read"):
        index(dataset, replace=True)
    with pytest.raises(OSError, match="not a plain file"):
        open_plain(shard)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device"])
def test_only_a_plain_file_is_an_index(dataset: Path, kind: str) -> None:
    path = dataset / INDEX_FILE
    content = path.with_suffix(".moved")
    path.rename(content)
    replace(path, content, kind)
    with pytest.raises(UserError, match="cannot be read .*not a plain file"):
        Dataset(dataset).column("offset", "train")


def replace(path: Path, content: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(content)
    elif kind == "folder":
        path.mkdir()
    else:
        if os.geteuid() != 0:
            pytest.skip("only root makes devices")
        try:
            os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends.
        except PermissionError:
            pytest.skip("this container makes no devices")


def test_names_of_shards() -> None:
    assert all(map(is_shard_name, ("train-000000.tar", "a.tar", "LFW_v2.1-val.tar")))
    assert not any(map(is_shard_name, OUTSIDE))


@pytest.mark.parametrize("name", ["../checkpoints", ".", "..", "/tmp/other", "a/b", "", ".hidden", "x\n"])
def test_the_name_of_a_sampler_is_not_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a sampler's name"):
        check_name(name)
    with pytest.raises(UserError, match="is not a sampler's name"):
        load_sampler(tmp_path, name, tmp_path, "ema")


def test_only_what_was_written_whole_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "checkpoints"
    precious.mkdir()
    (precious / "weights").write_text("a week of training")
    with pytest.raises(UserError, match="is not a complete directory of facegen; move it away"):
        write_complete(precious, lambda directory: None)
    assert (precious / "weights").read_text() == "a week of training"
    ours = tmp_path / "ours"
    for text in ("first", "second"):
        write_complete(ours, lambda directory, text=text: (directory / "file").write_text(text) and None)
    assert (ours / "file").read_text() == "second"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ".."])
def test_a_marker_names_files_of_its_own_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "images_1").mkdir()
    (tmp_path / "images_1" / MARKER).write_text(json.dumps({name: "0" * 64}))
    assert "not a file of this directory" in str(damage(tmp_path / "images_1"))


def test_a_pipe_in_a_checkpoint_is_damage(tmp_path: Path) -> None:
    write_complete(tmp_path / "images_1", lambda directory: (directory / "state").write_text("x") and None)
    (tmp_path / "images_1" / "state").unlink()
    os.mkfifo(tmp_path / "images_1" / "state")
    assert "its file state is missing" in str(damage(tmp_path / "images_1"))
