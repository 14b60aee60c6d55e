"""Files of the latent tools that outlive a release: older ones are read, newer ones are one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from eval.latent.attribute_vectors import Attributes, load_attributes, save_attributes
from eval.latent.editing.uploads import latent_file, read_latent
from eval.latent.origin import Origin
from eval.latent.pca import fit_pca, load_pca, save_pca
from shards.base.errors import UserError
from shards.images.alignment import Alignment
from shards.packing.framing import Framing

ORIGIN = Origin("0123", "run", "640", "abcd", "train", Framing("lfw", (83, 92, 167, 176), Alignment("facenet", 0.1)))
COUNTS = np.ones(1, np.int64)


def write_attributes(path: Path) -> None:
    save_attributes(path, Attributes(("Smiling",), np.ones((1, 3), np.float32), COUNTS, COUNTS), ORIGIN)


def write_components(path: Path) -> None:
    save_pca(path, fit_pca(np.random.default_rng(0).normal(size=(20, 3))), ORIGIN)


def change_version(path: Path, version: str) -> None:
    """Gives a file another format version."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert metadata["format_version"] == "2"
    path.write_bytes(save(load(path.read_bytes()), metadata | {"format_version": version}))


def make_old(path: Path) -> None:
    """Turns a file into one of release 0.1: without a version and the framing."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    del metadata["format_version"], metadata["framing"]
    path.write_bytes(save(load(path.read_bytes()), metadata))


@pytest.mark.parametrize(("write", "read"), [(write_attributes, load_attributes), (write_components, load_pca)])
def test_a_file_without_a_version_is_read_and_a_newer_one_is_one_sentence(
    write: Callable, read: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "fitted.safetensors"
    write(path)
    assert read(path)[1] == ORIGIN
    make_old(path)
    assert read(path)[1] == replace(ORIGIN, framing=None)
    write(path)
    change_version(path, "3")
    with pytest.raises(UserError, match="has format version 3 .* reads up to 2; install a newer facegen"):
        read(path)


@pytest.mark.parametrize("version", ["", "x", "-1", "0"])
def test_a_version_that_never_was_is_one_sentence(version: str, tmp_path: Path) -> None:
    path = tmp_path / "fitted.safetensors"
    write_attributes(path)
    change_version(path, version)
    with pytest.raises(UserError, match="no known format version"):
        load_attributes(path)


def test_a_latent_of_release_0_1_is_read_and_a_newer_one_is_one_sentence() -> None:
    latent = {"latent": np.arange(3, dtype=np.float32)}
    assert read_latent(save(latent, {"snapshot": "0123", "run": "vae"})).snapshot == "0123"
    assert read_latent(latent_file(latent["latent"], "0123", "vae")).values.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="this file has format version 2 of a latent"):
        read_latent(save(latent, {"snapshot": "0123", "run": "vae", "format_version": "2"}))
    with pytest.raises(UserError, match="install a newer facegen") as caught:
        read_latent(save(latent, {"snapshot": "0123", "format_version": "9" * 100_000}))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("write", "read", "tensors", "texts"),
    [
        (write_components, load_pca, {"count": np.ones(0)}, {}),
        (write_components, load_pca, {"mean": np.ones(2)}, {}),
        (write_components, load_pca, {"components": np.ones(3)}, {}),
        (write_attributes, load_attributes, {"vectors": np.ones((2, 3))}, {}),
        (write_attributes, load_attributes, {}, {"names": "["}),
        (write_attributes, load_attributes, {}, {"names": "[" * 100_000}),
        (write_attributes, load_attributes, {}, {"names": '["a", "b"]'}),
        (write_attributes, load_attributes, {}, {"names": "3"}),
        (write_attributes, load_attributes, {}, {"framing": "3"}),
        (write_attributes, load_attributes, {}, {"framing": '{"source": "lfw", "crop": "top"}'}),
    ],
)
def test_a_file_whose_content_does_not_fit_together(
    tmp_path: Path,
    write: Callable[[Path], None],
    read: Callable[[Path], object],
    tensors: dict[str, np.ndarray],
    texts: dict[str, str],
) -> None:
    path = tmp_path / "f.safetensors"
    write(path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    path.write_bytes(save(load(path.read_bytes()) | tensors, metadata | texts))
    with pytest.raises(UserError, match="f.safetensors is not a readable file of .*; make one with: python -m eval"):
        read(path)
