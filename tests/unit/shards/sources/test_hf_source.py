"""Hugging Face data sets in four local forms, streamed, interrupted and packed; without a network."""

from __future__ import annotations

import errno
import http.server
import io
import itertools
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bad_images import BAD_FILES
from failing_disk import fail_at_every_change
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.pack import main
from shards.packing.pack import pack
from shards.sources.hf import library
from shards.sources.hf import source as hf
from shards.sources.hf.source import HfConfig, HfSource

datasets = pytest.importorskip("datasets")
NUM = 30
OLD, NEW = "0" * 40, "1" * 40


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill_spool(config: HfConfig) -> Path:
    return hf.fill_spool(config, config.input, config.revision)


def table(num: int = NUM, start: int = 0) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "age": datasets.Value("int32"),
            "gender": datasets.ClassLabel(names=["female", "male"]),
            "smiling": datasets.Value("bool"),
            "person": datasets.Value("string"),
            "box": datasets.Sequence(datasets.Value("int32")),
        }
    )
    numbers = range(start, start + num)
    rows = {
        "image": [Image.new("RGB", (20, 20), (n * 4, 50, 9)) for n in numbers],
        "age": [n + 10 for n in numbers],
        "gender": [n % 3 - 1 for n in numbers],
        "smiling": [n % 2 == 0 for n in numbers],
        "person": [f"p{n % 10}" for n in numbers],
        "box": [[1, 2]] * num,
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    root.mkdir()
    table().to_parquet(root / "train-00000.parquet")
    table(10, 30).to_parquet(root / "validation-00000.parquet")
    return root


def test_parquet_rows_and_labels(parquet: Path) -> None:
    source = pickle.loads(pickle.dumps(HfSource(HfConfig(str(parquet)))))
    assert len(source) == 40 and {name: label.kind for name, label in source.fields.items()} == {
        "age": "float",
        "gender": "class",
        "smiling": "bool",
        "person": "class",
    }
    item = source[4]
    assert item.key == "train/00000004" and item.partition == "train"
    assert item.labels == {"age": 14, "gender": "female", "smiling": True, "person": "p4"}
    assert source[3].labels["gender"] is None  # -1 stands for unknown
    assert source[39].key == "validation/00000009" and source[39].partition == "val"
    assert np.asarray(source.load(source[39]))[0, 0].tolist() == [156, 50, 9]
    assert source.identity_field == "person" and str(parquet.parent) not in json.dumps(source.provenance)


def test_one_split_and_a_limit(parquet: Path) -> None:
    source = HfSource(HfConfig(str(parquet), split="train", limit=7))
    assert [source[position].key for position in range(len(source))] == [f"train/{n:08d}" for n in range(7)]
    assert source[0].partition is None  # Packing splits it.
    assert len(HfSource(HfConfig(str(parquet), limit=7))) == 14


def test_image_folders_and_saved_data_sets(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "images" / ("glad" if number % 2 else "sad") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number * 40, 0, 0)).save(path)
    source = HfSource(HfConfig(str(tmp_path / "images")))
    found = {source.load(source[p]).getpixel((0, 0))[0]: source[p].labels["label"] for p in range(len(source))}
    assert found == {number * 40: "glad" if number % 2 else "sad" for number in range(6)}
    table().save_to_disk(tmp_path / "saved")
    assert len(HfSource(HfConfig(str(tmp_path / "saved")))) == NUM
    datasets.DatasetDict(train=table(), test=table(4)).save_to_disk(tmp_path / "saved_splits")
    assert len(HfSource(HfConfig(str(tmp_path / "saved_splits"), split="test"))) == 4


def test_a_stream_that_broke_off_resumes(
    parquet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = HfConfig(str(parquet))
    rows = library.rows_of

    def breaking(*args: Any) -> Iterator[Any]:
        yield from itertools.islice(rows(*args), 12)
        raise ConnectionError("the network is gone")

    monkeypatch.setattr(library, "rows_of", breaking)
    with pytest.raises(UserError, match="cannot be streamed .the network is gone.*rerun the command"):
        fill_spool(config)
    taken: list[int] = []

    def counting(*args: Any) -> Iterator[Any]:
        for row in rows(*args):
            taken.append(1)
            yield row

    monkeypatch.setattr(library, "rows_of", counting)
    source = HfSource(config)
    assert "Resuming: 12 images" in capsys.readouterr().out and len(taken) == 40 - 12
    reds = [source.load(source[position]).getpixel((0, 0))[0] for position in range(40)]
    assert reds == [number * 4 for number in range(40)]
    HfSource(config)
    assert len(taken) == 28  # A complete spool is not streamed again.


def test_a_half_written_row_is_cut_off(parquet: Path) -> None:
    config = HfConfig(str(parquet))
    folder = fill_spool(config)
    whole = {name: (folder / name).read_bytes() for name in ("images.bin", "rows.jsonl")}
    (folder / "complete").unlink()
    (folder / "images.bin").write_bytes(whole["images.bin"][:-200])
    (folder / "rows.jsonl").write_bytes(whole["rows.jsonl"][:-5])
    assert fill_spool(config) == folder
    assert {name: (folder / name).read_bytes() for name in whole} == whole


def test_a_complete_spool_that_was_damaged_is_streamed_on(parquet: Path) -> None:
    config = HfConfig(str(parquet))
    folder = fill_spool(config)
    whole = {name: (folder / name).read_bytes() for name in ("images.bin", "rows.jsonl")}
    for name, content in whole.items():
        (folder / name).write_bytes(content[: len(content) // 2])
        assert fill_spool(config) == folder
        assert {name: (folder / name).read_bytes() for name in whole} == whole


def test_a_disk_that_fails_at_every_change_of_a_spool(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(folder: Path) -> None:
        monkeypatch.setenv("FACEGEN_CACHE", str(folder))
        fill_spool(HfConfig(str(parquet), limit=5))

    def result(folder: Path) -> list[bytes]:
        return [next(folder.glob(f"hf/*/{name}")).read_bytes() for name in ("images.bin", "rows.jsonl", "complete")]

    failed = fail_at_every_change(tmp_path / "spools", (errno.ENOSPC, errno.EIO), command, result, (UserError,))
    assert any("images.bin" in change for change in failed)


def test_changed_files_are_streamed_anew(parquet: Path) -> None:
    assert len(HfSource(HfConfig(str(parquet)))) == 40
    table(5, 50).to_parquet(parquet / "test-00000.parquet")
    assert len(HfSource(HfConfig(str(parquet)))) == 45


def test_packing_counts_broken_images(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.new("RGB", (20, 20)).save(good, "PNG")
    contents = [good.getvalue()] * 20 + [b"no image", b"", BAD_FILES["truncated.jpg"]]
    features = datasets.Features({"picture": datasets.Image(decode=False), "age": datasets.Value("float32")})
    rows = {"picture": [{"bytes": data, "path": None} for data in contents] + [None], "age": [1.5] * 24}
    (tmp_path / "faces").mkdir()
    saved = datasets.Dataset.from_dict(rows, features=features).cast_column("picture", datasets.Image())
    saved.to_parquet(tmp_path / "faces" / "train.parquet")
    out = tmp_path / "out"
    options = ["--size", "16", "--max_skipped_fraction", "0.3", "--workers", "1"]
    main(["hf", str(tmp_path / "faces"), str(out), *options])
    dataset = Dataset(out)
    assert sum(map(dataset.num_samples, dataset.splits)) == 20
    reasons = {name: found["num"] for name, found in dataset.manifest.provenance["skipped"]["reasons"].items()}
    assert reasons["empty file"] == 2 and sum(reasons.values()) == 4


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers what commit a revision is."""

    def do_GET(self) -> None:
        revision = self.path.rsplit("/", 1)[-1]
        commit = {"faces": NEW, "main": NEW, "v1": OLD}.get(revision)
        body = json.dumps({"id": "some/faces", "sha": commit}).encode()
        self.send_response(200 if commit else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """A hub on this machine with one data set of two commits; yields the revisions that were streamed."""
    streamed: list[str | None] = []
    load = datasets.load_dataset

    def load_dataset(name: str, *args: Any, revision: str | None = None, **options: Any) -> Any:
        assert name == "some/faces"
        streamed.append(revision)
        return load(str(parquet), *args, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield streamed
        server.shutdown()


def test_a_revision_becomes_the_commit_that_it_stands_for(hub: list[str | None], tmp_path: Path) -> None:
    for revision, commit in ((None, NEW), ("v1", OLD)):
        source = HfSource(HfConfig("some/faces", revision=revision))
        assert hub[-1] == commit and source.provenance["commit"] == commit
        assert source.provenance["revision"] == revision
    assert HfSource(HfConfig("some/faces", revision="main")).provenance["commit"] == NEW
    assert len(hub) == 2  # What is there already is not streamed again under another name.
    with pytest.raises(UserError, match="some/faces cannot be streamed .*404.*check the name"):
        HfSource(HfConfig("some/faces", revision="v2"))


def test_a_packing_is_of_one_commit(
    hub: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack("hf", "some/faces", tmp_path / "out", size=16, workers=1)
    monkeypatch.setattr(hf, "_commit", lambda config, repository, revision: revision or OLD)
    with pytest.raises(UserError, match=f"data set with commit {NEW} instead of {OLD}"):
        pack("hf", "some/faces", tmp_path / "out", size=16, workers=1)
    pack("hf", "some/faces", tmp_path / "out", size=16, workers=1, revision=NEW)
    assert "already packed" in capsys.readouterr().out


def test_mistakes_are_one_sentence(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has no split 'test'; it has train, validation"):
        HfSource(HfConfig(str(parquet), split="test"))
    with pytest.raises(UserError, match="no image column 'photo'; its columns are image, age"):
        HfSource(HfConfig(str(parquet), image_column="photo"))
    with pytest.raises(UserError, match="no column 'age' of people's names; class columns are gender, person"):
        HfSource(HfConfig(str(parquet), identity_column="age"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column of images; its columns are a, b"):
        HfSource(HfConfig(str(tmp_path / "text")))
    with pytest.raises(UserError, match="nowhere cannot be streamed .*check the name"):
        HfSource(HfConfig(str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="--limit must be at least 1"):
        HfConfig("x", limit=0)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match="pip install 'facegen.hf.'"):
        HfSource(HfConfig(str(parquet), limit=1))
