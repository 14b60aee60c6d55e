"""Data sets with a damaged or hostile ``dataset.json``, index or tar: opened, inspected, indexed, verified, cached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from shards import index, inspect
from shards.base.records import as_record
from shards.dataset.dataset import Dataset
from shards.dataset.index_file import column_sha256
from shards.dataset.manifest import DATASET_FILE, DATASET_FORMAT, INDEX_FILE, SPLITS, Manifest
from shards.loading.batch import BatchReader, Share
from shards.pack import main as pack
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.damage import draw_bytes, draw_json, draw_place, make

SIGN = Change("sign", "all")
_COLUMN_DAMAGE = ("drop", "shorten", "lengthen", "dtype", "negative", "huge", "shape", "shuffle", "nan")


class DataSets(Area):
    """A packed data set with a class, a number and flags; all of its images are read."""

    title = "data sets with a damaged or hostile `dataset.json`, index or tar"
    uses = ("open", "open", "open", "inspect", "index", "verify")

    def __init__(self, home: Path, bait: Path) -> None:
        """Packs them."""
        super().__init__(home, bait)
        self._data = pack_small(home / "data")
        self._manifest = json.loads((self._data / DATASET_FILE).read_text())
        self._columns = list(load_file(self._data / INDEX_FILE))
        self._sizes = {path.name: path.stat().st_size for path in self._data.iterdir()}

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One to three changes, and perhaps checksums that fit them."""
        changes = [self._draw_one(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        return [*changes, *[SIGN] * (rng.random() < 0.5)]

    def _draw_one(self, rng: random.Random) -> Change:
        file = rng.choice((DATASET_FILE, DATASET_FILE, INDEX_FILE, *self._sizes))
        how = rng.random()
        if how < 0.1:
            return draw_place(rng, file)
        if file == DATASET_FILE and how < 0.8:
            return draw_json(rng, file, self._manifest)
        if file == INDEX_FILE and how < 0.6:
            return Change("column", rng.choice(self._columns), rng.choice(_COLUMN_DAMAGE))
        return draw_bytes(rng, file, self._sizes[file])

    def use(self, folder: Path, case: Case) -> dict[str, Any]:
        """Reads everything, directly or after a command; the result is a digest of each part."""
        data = folder / "data"
        shutil.copytree(self._data, data)
        for change in case.changes:
            if change.kind == "column":
                _damage_column(data / INDEX_FILE, change.where, change.value)
            elif change == SIGN:
                sign(data)
            else:
                make(change, data)
        if case.use == "inspect":
            inspect.main([str(data), "--out", str(folder / "sheet.png")])
        elif case.use == "index":
            index.main([str(data)])
        elif case.use == "verify":
            try:
                index.main([str(data), "--verify"])
            except SystemExit as end:
                if end.code != 1:
                    raise
                return {"damage": "found"}
        return read_everything(data)

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """The same content, or another fingerprint, by which every run refuses it as other data.

        With checksums that fit, other labels are another data set, and nobody can tell.
        """
        return found == good or found.get("fingerprint") != good["fingerprint"] or SIGN in case.changes


def pack_small(folder: Path) -> Path:
    """Packs 24 images of 16x16 into five shards, with every kind of label."""
    options = ["synthetic", str(folder), "--num", "24", "--size", "16", "--samples_per_shard", "8"]
    with contextlib.redirect_stdout(None):
        pack([*options, "--split_by", "sample", "--workers", "1"])
    return folder


def sign(data: Path) -> None:
    """Makes checksums and fingerprint fit, as somebody who wants changed files to be read would."""
    path = data / DATASET_FILE
    if not all(stat.S_ISREG(file.lstat().st_mode) for file in (path, data / INDEX_FILE) if os.path.lexists(file)):
        return
    with suppress(Exception):  # Damaged beyond that.
        content = json.loads(path.read_text())
        content["index"] = {name: column_sha256(column) for name, column in load_file(data / INDEX_FILE).items()}
        parts = {name: part for name, part in content.items() if name not in ("fingerprint", DATASET_FORMAT.key)}
        content["fingerprint"] = as_record(parts, Manifest, path, "").fingerprint
        path.write_text(json.dumps(content))


def read_everything(data: Path | str) -> dict[str, Any]:
    """Fingerprint, and a digest of keys, labels and pixels of each split."""
    dataset = Dataset(data)
    found: dict[str, Any] = {"fingerprint": dataset.fingerprint}
    for split in SPLITS:
        num_samples = dataset.num_samples(split)
        found[f"{split} samples"] = num_samples
        if not num_samples:
            continue
        found[f"{split} keys"] = _digest("\n".join(dataset.keys(split)).encode("utf-8", "surrogateescape"))
        batches, error = BatchReader(dataset, split, None)([Share(np.arange(num_samples))])
        if error is not None:
            raise error
        found[f"{split} pixels"] = _digest(batches[0].images.numpy().tobytes())
        for name, values in sorted(batches[0].labels.items()):
            found[f"{split} {name}"] = _digest(values.numpy().tobytes())
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _damage_column(path: Path, name: str, how: str) -> None:
    try:
        columns = load_file(path)
        column = columns[name]
    except Exception:  # An earlier change damaged the file.
        return
    if how == "drop":
        del columns[name]
    elif how == "shorten":
        columns[name] = column[:-1].copy()
    elif how == "lengthen":
        columns[name] = np.concatenate([column, column[-1:]])
    elif how == "dtype":
        columns[name] = column.astype(np.float64)
    elif how == "shape":
        columns[name] = column[None].copy()
    elif how == "shuffle":
        columns[name] = column[::-1].copy()
    else:
        new = column.copy()
        new[len(new) // 2] = _extreme(column.dtype, how)
        columns[name] = new
    path.unlink()
    save_file(columns, path)


def _extreme(dtype: np.dtype, how: str) -> float:
    """A value that a column cannot have, as far as its type has one."""
    if dtype.kind == "f":
        return {"negative": -1000.0, "huge": np.inf, "nan": np.nan}[how]
    return np.iinfo(dtype).min if how == "negative" else np.iinfo(dtype).max
