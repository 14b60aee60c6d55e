"""A data set on an S3 server: two processes train on it, and a report evaluates on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import s3_server
from eval.report import main as make_report
from launching import RECORD, TINY, launch, records, run
from shards.dataset.dataset import Dataset


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bucket(tiny_dataset: Path, cache: Path) -> Iterator[str]:
    """The tiny data set in a bucket."""
    with s3_server.serving() as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGEN_CACHE", str(cache))
        for path in tiny_dataset.iterdir():
            if path.is_file():
                client.upload_file(str(path), s3_server.BUCKET, f"sets/tiny/{path.name}")
        yield f"s3://{s3_server.BUCKET}/sets/tiny"


def test_training_from_s3_is_training_from_the_disk(
    bucket: str, cache: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    assert Dataset(bucket).fingerprint == Dataset(tiny_dataset).fingerprint
    options = ["ae", "--global_batch_size", 32, "--max_steps", 8, *TINY]
    run(launch(2, RECORD, tmp_path / "s3.jsonl", *options, "--data", bucket, "--run", tmp_path / "s3"))
    run(launch(2, RECORD, tmp_path / "disk.jsonl", *options, "--data", tiny_dataset, "--run", tmp_path / "disk"))
    for rank in (0, 1):
        assert records(tmp_path / "s3.jsonl", rank) == records(tmp_path / "disk.jsonl", rank)
    cached = sorted(path.name for path in (cache / "shards").glob("*/*.tar"))
    assert cached == sorted(shard.name for split in ("train", "val") for shard in Dataset(bucket).shards(split))


def test_a_report_on_s3(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["ae", "--max_steps", 2, "--global_batch_size", 32, *TINY, "--data", bucket, "--run", tmp_path / "run"]
    run(launch(1, RECORD, tmp_path / "record.jsonl", *options))
    arguments = [str(tmp_path / "run"), "--data", bucket, "--out", str(tmp_path / "report"), "--only", "reconstruction"]
    monkeypatch.setattr("sys.argv", ["eval.report", *arguments, "--fid_weights", "none", "--device", "cpu"])
    make_report()
    (result,) = json.loads((tmp_path / "report" / "report.json").read_text())["runs"]
    assert result["measures"]["mse"]["value"] > 0
