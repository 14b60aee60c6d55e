"""The public interface of shards: its names, and how little an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shards

HEAVY = {"PIL", "aiohttp", "cv2", "datasets", "fsspec", "jsonargparse", "numpy", "tqdm", "torch", "webdataset"}


def loaded(statement: str) -> set[str]:
    """The heavy packages that a new interpreter has loaded after a statement."""
    command = [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"]
    return HEAVY & set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("import shards", set()),
        ("import shards; shards.UserError", set()),
        ("import shards.base, shards.dataset, shards.images, shards.packing, shards.loading", set()),
        ("import shards; shards.Dataset", {"numpy"}),
        ("import shards; shards.pack", {"PIL", "numpy", "tqdm"}),
        # What a worker process of a packing loads.
        ("import shards.packing.shard", {"PIL", "numpy"}),
        ("import shards; shards.TrainLoader, shards.evaluation_batches", {"PIL", "numpy", "torch", "tqdm"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, needed: set[str]) -> None:
    assert loaded(statement) <= needed


def test_every_public_name_is_documented_and_known_to_type_checkers() -> None:
    tree = ast.parse(Path(shards.__file__).read_text())
    imported = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == vars(shards)["_Room__published"]
    assert sorted(imported) == shards.__all__ == [name for name in dir(shards) if name in shards.__all__]
    assert all(getattr(shards, name).__doc__ for name in shards.__all__)


def test_the_function_stays_when_the_command_of_its_name_is_imported() -> None:
    code = "import shards, shards.pack as command; from shards.pack import main; print(shards.pack.__module__)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "shards.packing.pack"


def test_faces_are_packed_and_read_without_a_command_line(tmp_path: Path) -> None:
    packed = shards.pack("synthetic", tmp_path / "faces", num=120, size=16, workers=1)
    dataset = shards.Dataset(tmp_path / "faces")
    assert dataset.fingerprint == packed.fingerprint
    loader = shards.TrainLoader(dataset, "train", global_batch_size=8, seed=0, num_threads=0)
    batch = next(iter(loader))
    assert batch.images.shape == (8, 16, 16, 3)
    rows = [batch.rows for batch in shards.evaluation_batches(dataset, "val", 4)]
    assert np.concatenate(rows).tolist() == list(range(dataset.num_samples("val")))
    with pytest.raises(shards.UserError, match="there is no option 'nun'; did you mean 'num'"):
        shards.pack("synthetic", tmp_path / "other", nun=120)
