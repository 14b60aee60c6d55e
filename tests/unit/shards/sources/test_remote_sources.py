"""Sources behind addresses: tars and parquet in buckets (moto's S3) and on the Hub, beside the same on the disk."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from s3fs import S3FileSystem

import hub_server
import s3_server
import unreliable_server
from hub_server import Hub, Repository
from shards.base.errors import UserError
from shards.dataset.addresses import RemoteFolder
from shards.dataset.dataset import Dataset
from shards.dataset.tar import ShardWriter
from shards.packing.pack import pack
from shards.sources.hf import parquet as parquet_rows
from shards.sources.hf.source import HfConfig, HfSource
from shards.sources.webdataset import WebdatasetConfig, WebdatasetSource
from tests.helpers.request_faults import Faults

datasets = pytest.importorskip("datasets")
NAME = "someone/faces"
OPTIONS: dict[str, Any] = {"size": 16, "samples_per_shard": 10, "codec": "png", "workers": 1}


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[Any, Faults]]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_server.serving_with_faults() as running:
        yield running


@pytest.fixture
def s3(bucket: tuple[Any, Faults]) -> Iterator[Any]:
    yield bucket[0]
    bucket[1].share = 0.0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with hub_server.serving(tmp_path / "hub") as running:
        running.repositories["dataset", NAME] = Repository()
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEGEN_TIMEOUT_SEC", "2")
    unreliable_server.retry_at_once(monkeypatch)
    return tmp_path / "cache"


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20 + number % 3, 20), (number * 4, 50, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def tars(root: Path) -> Path:
    """Two shards of 20 images, in which labels lie before and behind the image; and what is none."""
    root.mkdir()
    for shard in range(2):
        with ShardWriter(root / f"faces-{shard}.tar") as writer:
            for number in range(20 * shard, 20 * shard + 20):
                writer.add(f"{number:03d}", "cls", str(number % 3).encode())
                writer.add(f"{number:03d}", "png", picture(number))
                writer.add(f"{number:03d}", "txt", f"p{number % 11}".encode())
    (root / ".hidden.tar").write_bytes(b"resource fork")
    (root / "notes.txt").write_text("nothing")
    return root


def rows(num: int, start: int = 0) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "age": datasets.Value("int32"),
            "gender": datasets.ClassLabel(names=["female", "male"]),
            "smiling": datasets.Value("bool"),
            "person": datasets.Value("string"),
            "box": datasets.Sequence(datasets.Value("int32")),
            "seen": datasets.Value("timestamp[s]"),
        }
    )
    numbers = range(start, start + num)
    values = {
        "image": [{"bytes": picture(n), "path": None} if n % 7 else None for n in numbers],
        "age": [n + 10 if n % 5 else None for n in numbers],
        "gender": [n % 3 - 1 for n in numbers],
        "smiling": [n % 2 == 0 for n in numbers],
        "person": [f"p{n % 10}" for n in numbers],
        "box": [[1, 2]] * num,
        "seen": [0] * num,
    }
    return datasets.Dataset.from_dict(values, features=features)


def parquet(root: Path) -> Path:
    """Two files for training, in row groups of four, and one for validation."""
    (root / "data").mkdir(parents=True)
    rows(18).to_parquet(root / "data" / "train-00000-of-00002.parquet", batch_size=4)
    rows(12, 18).to_parquet(root / "data" / "train-00001-of-00002.parquet", batch_size=4)
    rows(10, 30).to_parquet(root / "data" / "validation-00000-of-00001.parquet")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def upload(s3: Any, folder: Path, prefix: str) -> None:
    for name, content in contents(folder).items():
        s3.put_object(Bucket="faces", Key=f"{prefix}/{name}", Body=content)


def commit(hub: Hub, folder: Path) -> str:
    repository = hub.repositories["dataset", NAME]
    repository.commits.append(contents(folder))
    return repository.commit_id(len(repository.commits) - 1)


def described(dataset: Dataset) -> dict[str, Any]:
    """All that ``dataset.json`` says, with the checksums of shards and index, but for where the images came from."""
    content = json.loads((dataset.root / "dataset.json").read_text())
    for name in ("input", "revision", "commit"):
        content["provenance"]["input"].pop(name, None)
    return content


def test_tars_in_a_bucket_though_requests_fail_and_stall(s3: Any, bucket: tuple[Any, Faults], tmp_path: Path) -> None:
    upload(s3, tars(tmp_path / "in"), "tars")
    here = pack("webdataset", tmp_path / "in", tmp_path / "out", **OPTIONS)
    faults = bucket[1]
    faults.share, before = 0.1, faults.injected.total()
    with s3_server.watched(s3, "packed") as seen:
        there = pack("webdataset", "s3://faces/tars", "s3://faces/packed", **OPTIONS)
    assert faults.injected.total() > before
    assert described(there) == described(here)
    assert any("dataset.json" not in listed for listed in seen if listed)
    assert not s3_server.half_written(seen, described(there)) and not s3_server.open_uploads(s3)


def test_patterns_of_tars_in_a_bucket(s3: Any, bucket: tuple[Any, Faults], tmp_path: Path) -> None:
    upload(s3, tars(tmp_path / "in"), "in/part0")
    upload(s3, tmp_path / "in", "in/part1")

    def found(given: str) -> list[str]:
        source = WebdatasetSource(WebdatasetConfig(Path(given)))
        return sorted({source[position].key.rpartition("/")[0] for position in range(len(source))})

    assert found("s3://faces/in") == [f"part{part}/faces-{shard}" for part in (0, 1) for shard in (0, 1)]
    assert found("s3://faces/in/part0/faces-*.tar") == found("s3://faces/in/part0") == [""]
    assert found("s3://faces/in/part{0..1}/faces-1.tar") == ["part0/faces-1", "part1/faces-1"]
    assert found("s3://faces/in/**/faces-0.tar") == ["part0/faces-0", "part1/faces-0"]
    assert found("s3://faces/in/part?") == found("s3://faces/in/part{0..1}") == found("s3://faces/in")
    assert found("s3://faces/in/part1/faces-1.tar") == [""]
    for given, message in (
        ("s3://faces/in/x-*.tar", r"no \*.tar shards at s3://faces/in/x-"),
        ("s3://faces/nowhere", r"no \*.tar shards at s3://faces/nowhere; give the folder"),
        ("s3://faces/in/part0/faces-{0..2}.tar", "no file or folder s3://faces/in/part0/faces-2.tar"),
        ("s3://nobody/in", "there is no s3://nobody/in; make its bucket"),
    ):
        with pytest.raises(UserError, match=message):
            found(given)


def test_an_image_of_a_tar_takes_one_request_of_its_size(s3: Any, bucket: tuple[Any, Faults], tmp_path: Path) -> None:
    upload(s3, tars(tmp_path / "in"), "counted")
    faults = bucket[1]
    faults.requests.clear()
    source = WebdatasetSource(WebdatasetConfig(Path("s3://faces/counted")))
    assert faults.requests.total() == 3  # The list, and each tar.
    for position in range(10):
        assert source.load(source[position]).size == (20 + position % 3, 20)
    assert faults.requests.total() == 13


def test_pages_of_a_list_are_tried_again_alone(
    s3: Any, bucket: tuple[Any, Faults], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"{number:02d}": number for number in range(40)}
    for name, size in names.items():
        s3.put_object(Bucket="faces", Key=f"pages/{name}", Body=bytes(size))
    s3.put_object(Bucket="faces", Key="pages/a_folder/", Body=b"")
    call = S3FileSystem.call_s3
    monkeypatch.setattr(S3FileSystem, "call_s3", lambda *args, **options: call(*args, MaxKeys=2, **options))
    bucket[1].share, before = 0.2, bucket[1].injected.total()
    assert RemoteFolder("s3://faces/pages").sizes() == names
    assert bucket[1].injected.total() > before


def test_damaged_tars_and_failing_servers_are_told_apart(s3: Any, bucket: tuple[Any, Faults], tmp_path: Path) -> None:
    content = (tars(tmp_path / "in") / "faces-0.tar").read_bytes()
    s3.put_object(Bucket="faces", Key="cut/faces-0.tar", Body=content[:9_000])
    with pytest.raises(UserError, match="faces-0.tar is truncated or not a tar file"):
        WebdatasetSource(WebdatasetConfig(Path("s3://faces/cut")))
    s3.put_object(Bucket="faces", Key="whole/faces-0.tar", Body=content)
    source = WebdatasetSource(WebdatasetConfig(Path("s3://faces/whole")))
    upload(s3, parquet(tmp_path / "rows"), "silent")
    splits = parquet_rows.open_splits("s3://faces/silent", None)
    bucket[1].share = 1.0
    with pytest.raises(UserError, match="train-00000-of-00002.parquet could not be read in 6 tries"):
        next(splits["train"](0))
    with pytest.raises(UserError, match="faces-0.tar could not be read in 6 tries"):
        pack(source, tmp_path / "out", **OPTIONS)


def test_parquet_in_a_bucket_is_parquet_on_the_disk(s3: Any, bucket: tuple[Any, Faults], tmp_path: Path) -> None:
    upload(s3, parquet(tmp_path / "in"), "rows")
    options = OPTIONS | {"max_skipped_fraction": 0.3}
    here = pack("hf", tmp_path / "in", tmp_path / "out", **options)
    faults = bucket[1]
    faults.share, before = 0.1, faults.injected.total()
    there = pack("hf", "s3://faces/rows", "s3://faces/of_rows", **options)
    assert faults.injected.total() > before
    assert described(there) == described(here)
    assert there.manifest.provenance["skipped"]["reasons"]["empty file"]["num"] == 6


def test_parquet_that_broke_off_resumes_without_what_was_read(
    s3: Any,
    bucket: tuple[Any, Faults],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(s3, parquet(tmp_path / "in"), "broken")
    labels_of, num_read = parquet_rows.labels_of, 0

    def counting(*args: Any) -> Any:
        nonlocal num_read
        num_read += 1
        if num_read == 24:
            raise UserError("the server is gone")
        return labels_of(*args)

    monkeypatch.setattr(parquet_rows, "labels_of", counting)
    with pytest.raises(UserError, match="the server is gone"):
        HfSource(HfConfig("s3://faces/broken"))
    source = HfSource(HfConfig("s3://faces/broken"))
    assert "Resuming: 23 images" in capsys.readouterr().out and num_read == 24 + 40 - 23
    for position in range(40):
        item = source[position]
        assert item.labels["person"] == f"p{position % 10}"
        if position % 7:
            assert source.load(item).getpixel((0, 0))[0] == position * 4
    faults = bucket[1]
    faults.requests.clear()
    HfSource(HfConfig("s3://faces/broken"))
    assert faults.requests == {"GET": 1}  # A list, which says that nothing changed.
    rows(5, 40).to_parquet(tmp_path / "test.parquet")
    s3.upload_file(str(tmp_path / "test.parquet"), "faces", "broken/test.parquet")
    assert len(HfSource(HfConfig("s3://faces/broken"))) == 45
    assert len(HfSource(HfConfig("s3://faces/broken/test.parquet"))) == 5


def test_parquet_of_other_programs(s3: Any, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as files

    table = pyarrow.table({"photo": [picture(n) for n in range(20)], "age": [float(n) for n in range(20)]})
    files.write_table(table, tmp_path / "faces.parquet")
    s3.upload_file(str(tmp_path / "faces.parquet"), "faces", "other/faces.parquet")
    source = HfSource(HfConfig("s3://faces/other", image_column="photo", limit=12))
    assert [source[position].labels for position in range(len(source))] == [{"age": float(n)} for n in range(12)]
    assert source[3].key == "train/00000003" and source.load(source[3]).getpixel((0, 0))[0] == 12
    with pytest.raises(
        UserError, match="s3://faces/other/faces.parquet has no column of images; its columns are photo"
    ):
        HfSource(HfConfig("s3://faces/other"))
    with pytest.raises(UserError, match="has no image column 'age'"):
        HfSource(HfConfig("s3://faces/other", image_column="age"))
    s3.put_object(Bucket="faces", Key="cut/faces.parquet", Body=(tmp_path / "faces.parquet").read_bytes()[:500])
    with pytest.raises(UserError, match="s3://faces/cut/faces.parquet is truncated or not a parquet file"):
        HfSource(HfConfig("s3://faces/cut"))
    with pytest.raises(UserError, match=r"no \*.parquet files at s3://faces/nothing"):
        HfSource(HfConfig("s3://faces/nothing"))
    with pytest.raises(ValueError, match="s3://faces/other is an address: put the folder of the subset into it"):
        HfConfig("s3://faces/other", revision="v1")


def test_parquet_on_the_hub_is_of_one_commit(hub: Hub, tmp_path: Path) -> None:
    first = commit(hub, parquet(tmp_path / "in"))
    options = OPTIONS | {"max_skipped_fraction": 0.3}
    here = pack("hf", tmp_path / "in", tmp_path / "here", **options)
    there = pack("hf", f"hub:{NAME}", tmp_path / "there", **options)
    assert described(there) == described(here)
    assert there.manifest.provenance["input"]["commit"] == first
    rows(5, 40).to_parquet(tmp_path / "in" / "data" / "test-00000-of-00001.parquet")
    second = commit(hub, tmp_path / "in")
    for address, num, of in (
        (f"hf://datasets/{NAME}", 45, second),
        (f"hf://datasets/{NAME}@{first}", 40, first),
        (f"hf://datasets/{NAME}@main/data", 45, second),
        (f"hf://datasets/{NAME}/data/test-00000-of-00001.parquet", 5, second),
    ):
        source = HfSource(HfConfig(address))
        assert len(source) == num and source.provenance["commit"] == of, address
    hub.repositories["dataset", NAME].tags["refs/convert/parquet"] = 1
    assert HfSource(HfConfig(f"hf://datasets/{NAME}@refs/convert/parquet")).provenance["commit"] == first
    with pytest.raises(UserError, match="cannot be streamed .*check the name"):
        HfSource(HfConfig("hf://datasets/someone/else"))


def test_of_parquet_on_the_hub_only_needed_parts_are_read(hub: Hub, tmp_path: Path) -> None:
    root = parquet(tmp_path / "in")
    commit(hub, root)
    assert len(HfSource(HfConfig(f"hf://datasets/{NAME}", split="validation"))) == 10
    assert set(hub.sent) == {"data/validation-00000-of-00001.parquet"}


def test_tars_and_images_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    root = tars(tmp_path / "in")
    for number in range(20):
        path = root / "photos" / f"person{number % 5}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    revision = commit(hub, root)
    here = pack("webdataset", root, tmp_path / "tars_here", **OPTIONS)
    assert described(pack("webdataset", f"hub:{NAME}@{revision}", tmp_path / "tars", **OPTIONS)) == described(here)
    here = pack("folder", root / "photos", tmp_path / "photos_here", **OPTIONS)
    address = f"hf://datasets/{NAME}@{revision}/photos"
    assert described(pack("folder", address, tmp_path / "photos", **OPTIONS)) == described(here)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/faces-00000-of-00002-0123abc.parquet", "faces"),
        ("default/validation/0000.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("eval_01.parquet", "test"),
        ("trainer.parquet", "train"),
        ("contest.parquet", "train"),
    ],
)
def test_names_of_files_say_the_split(name: str, split: str) -> None:
    assert parquet_rows.split_of(name) == split
