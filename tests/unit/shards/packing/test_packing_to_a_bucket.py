"""Data sets written straight to an object store (moto's S3), and copied between stores."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from s3fs import S3FileSystem

import s3_server
import unreliable_server
from shards.base.errors import UserError
from shards.copy import copy
from shards.dataset.dataset import Dataset
from shards.dataset.stores import ObjectStore
from shards.index import verify
from shards.packing.pack import pack

OPTIONS: dict[str, Any] = {"num": 60, "size": 16, "samples_per_shard": 4, "codec": "png", "workers": 1}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with s3_server.serving() as client:
        yield client


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    unreliable_server.retry_at_once(monkeypatch)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("here") / "data"
    pack("synthetic", root, **OPTIONS)
    return root


def objects(client: Any, prefix: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket="faces", Prefix=f"{prefix}/").get("Contents", [])
    keys = [entry["Key"] for entry in listed]
    return {key.removeprefix(f"{prefix}/"): client.get_object(Bucket="faces", Key=key)["Body"].read() for key in keys}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def failing(monkeypatch: pytest.MonkeyPatch, share: float) -> list[str]:
    """Makes a share of the requests fail, before or after they were carried out; returns what failed."""
    generator, failed = random.Random(0), []
    call = S3FileSystem._call_s3

    async def unreliable(self: S3FileSystem, method: str, *arguments: Any, **options: Any) -> Any:
        lot = generator.random()
        if lot < share / 2:
            failed.append(method)
            raise OSError(5, "the request was lost")
        result = await call(self, method, *arguments, **options)
        if lot < share:
            failed.append(method)
            raise OSError(5, "the answer was lost")
        return result

    monkeypatch.setattr(S3FileSystem, "_call_s3", unreliable)
    return failed


def test_the_bytes_are_those_of_a_folder_though_requests_fail(
    s3: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = failing(monkeypatch, share=0.2)
    dataset = pack("synthetic", "s3://faces/packed", **OPTIONS)
    assert len(failed) > 3 and "put_object" in failed
    assert dataset.fingerprint == Dataset(here).fingerprint
    assert objects(s3, "packed") == contents(here)


def test_an_interrupted_packing_resumes_there(
    s3: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = ObjectStore.making
    names: list[str] = []

    def stopping(self: ObjectStore, name: str) -> Any:
        names.append(name)
        if len(names) == 5:
            raise KeyboardInterrupt
        return put(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "making", stopping)
        with pytest.raises(KeyboardInterrupt):
            pack("synthetic", "s3://faces/stopped", **OPTIONS)
    there = objects(s3, "stopped")
    assert "dataset.json" not in there and sorted(name for name in there if name.endswith(".tar")) == sorted(names[:4])
    with pytest.raises(UserError, match="s3://faces/stopped holds an unfinished packing with seed 0 instead of 1"):
        pack("synthetic", "s3://faces/stopped", **OPTIONS, seed=1)
    pack("synthetic", "s3://faces/stopped", **OPTIONS)
    assert "Resuming: 4 of 16 shards" in capsys.readouterr().out
    assert objects(s3, "stopped") == contents(here)
    pack("synthetic", "s3://faces/stopped", **OPTIONS)
    assert "s3://faces/stopped is already packed" in capsys.readouterr().out


def test_images_are_read_from_a_bucket(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    for number in range(12):
        folder = photos / f"person{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (20 * number, 0, 99)).save(folder / f"{number}.png")
    (photos / "person0" / ".hidden.png").write_bytes(b"")
    (photos / "person1" / "broken.png").write_bytes(b"no image")
    names = [f"person{number % 4}/{number}.png" for number in range(12)]
    (photos / "ages.csv").write_text("\ufefffile,age\n" + "".join(f"{name},{len(name)}.5\n" for name in names))
    for path in photos.rglob("*.*"):
        s3.upload_file(str(path), "faces", f"raw/{path.relative_to(photos)}")
    options = {"size": 16, "split_by": "sample", "labels": "ages.csv", "max_skipped_fraction": 0.5, "workers": 1}
    here = pack("folder", photos, tmp_path / "here", **options)
    failing(monkeypatch, share=0.1)
    there = pack("folder", "s3://faces/raw", "s3://faces/cooked", **options)
    assert there.fingerprint == here.fingerprint
    assert objects(s3, "cooked") == contents(tmp_path / "here")
    with pytest.raises(UserError, match="no label file nowhere.csv, neither here nor in s3://faces/raw"):
        pack("folder", "s3://faces/raw", tmp_path / "out", labels="nowhere.csv")
    with pytest.raises(UserError, match="no image files below s3://faces/empty"):
        pack("folder", "s3://faces/empty", tmp_path / "out")


def test_other_files_are_left_alone(s3: Any) -> None:
    s3.put_object(Bucket="faces", Key="photos/holiday.jpg", Body=b"")
    with pytest.raises(UserError, match="s3://faces/photos is not empty and holds no unfinished packing"):
        pack("synthetic", "s3://faces/photos", **OPTIONS)
    assert list(objects(s3, "photos")) == ["holiday.jpg"]
    with pytest.raises(UserError, match="there is no s3://nowhere/faces.*; make its bucket"):
        pack("synthetic", "s3://nowhere/faces", **OPTIONS)


def test_a_data_set_is_copied_there_and_back(
    s3: Any, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, share=0.1)
    assert copy(here, "s3://faces/copied").fingerprint == Dataset(here).fingerprint
    assert objects(s3, "copied") == contents(here)
    back = copy("s3://faces/copied", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(here) and not verify(back)
    copy(here, tmp_path / "back")
    assert "holds this data set already" in capsys.readouterr().out


def test_an_interrupted_copy_resumes_and_damage_is_noticed(here: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name, content in contents(here).items():
        (damaged / name).write_bytes(content)
    victim = sorted(damaged.glob("*.tar"))[-1]
    right = victim.read_bytes()
    victim.write_bytes(right[:1000] + b"x" + right[1001:])
    with pytest.raises(UserError, match=f"{victim.name} is damaged: its checksum differs"):
        copy(damaged, tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists() and not (tmp_path / "out" / victim.name).exists()
    arrived = {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    victim.write_bytes(right)
    copy(damaged, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(here)
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in arrived} == arrived

    pack("synthetic", tmp_path / "other", **OPTIONS, seed=1)
    with pytest.raises(UserError, match="holds another data set"):
        copy(tmp_path / "other", tmp_path / "out")
