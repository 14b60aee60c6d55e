"""Whole real data sets from ../shared, if they are there: every file is found, every label read."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.pack import main

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the real data in ../shared")


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(SHARED_DATA / name) as tar:
        tar.extractall(folder, filter="data")
    return folder


def packed(source: str, root: Path, out: Path, *options: str) -> Dataset:
    main([source, str(root), str(out), *options])
    return Dataset(out)


def test_smiles(tmp_path: Path) -> None:
    tree = unpacked("smiles.tar", tmp_path / "tree")
    dataset = packed("smiles", tree, tmp_path / "out", "--channels", "1")
    smiling = [int(value) for split in dataset.splits for value in dataset.labels("Smiling", split)]
    assert (len(smiling), sum(smiling), min(smiling)) == (13_165, 3_690, 0)
    assert dataset.manifest.provenance["skipped"]["num"] == 0


def test_olivetti(tmp_path: Path) -> None:
    dataset = packed("olivetti", SHARED_DATA / "olivetti_faces.npz", tmp_path / "out", "--channels", "1")
    people = [set(dataset.labels("identity", split)) for split in dataset.splits]
    assert sum(map(dataset.num_samples, dataset.splits)) == 400
    assert sum(map(len, people)) == len(set.union(*people)) == 40


@pytest.mark.slow
def test_lfw(tmp_path: Path) -> None:
    tree = unpacked("lfw.tar", tmp_path / "tree")
    dataset = packed("lfw", tree, tmp_path / "out")
    assert sum(map(dataset.num_samples, dataset.splits)) == 13_233
    assert len(dataset.fields["identity"].classes) == 5_749


@pytest.mark.slow
def test_celeba(tmp_path: Path) -> None:
    tree = unpacked("celeba10k.tar", tmp_path / "tree")
    dataset = packed("celeba", tree, tmp_path / "out")
    assert sum(map(dataset.num_samples, dataset.splits)) == 10_000
    assert len(dataset.fields) == 41 and len(dataset.fields["identity"].classes) == 5_429
