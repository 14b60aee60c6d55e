"""A run keeps the lanes of its order of images to its end, whatever later releases or options choose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facegen.options import LoaderConfig
from facegen.runs.checkpoint import MARKER, newest_complete, write_complete
from facegen.runs.state_file import STATE_FILE, read_facts
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import MakeConfig

LANES = LoaderConfig(num_threads=0, canonical_nodes=4)


def train(config: Any) -> list[list[int]]:
    """Trains to the end; returns the rows of each batch."""
    rows: list[list[int]] = []
    assert Trainer(config).fit(on_step=lambda _, batch, __: rows.append(batch.rows.tolist())) == 0
    return rows


def newest(config: Any) -> Path:
    found = newest_complete(Path(config.run) / "checkpoints")
    assert found
    return found


def as_before_lanes(directory: Path) -> None:
    """Makes a checkpoint of the release before lanes."""
    contents = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MARKER}
    state = json.loads(contents[STATE_FILE])
    state["format_version"] = 4
    del state["canonical_nodes"]
    contents[STATE_FILE] = json.dumps(state).encode()
    write_complete(directory, lambda folder: [(folder / name).write_bytes(data) for name, data in contents.items()])


@pytest.mark.parametrize("later", [LANES, LoaderConfig(num_threads=0)], ids=["given again", "left out"])
def test_a_run_resumes_in_its_lanes(later: LoaderConfig, tiny_config: MakeConfig, tmp_path: Path) -> None:
    whole = train(tiny_config("ae", max_steps=4, loader=LANES, run=str(tmp_path / "whole")))
    first = train(tiny_config("ae", max_steps=2, loader=LANES))
    assert first + train(tiny_config("ae", max_steps=4, loader=later)) == whole
    assert read_facts(newest(tiny_config("ae"))).canonical_nodes == 4
    assert whole != train(tiny_config("ae", run=str(tmp_path / "one_lane")))


def test_a_run_that_began_before_lanes_keeps_its_order(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_config("ae", run=str(tmp_path / "whole")))
    config = tiny_config("ae", max_steps=2)
    first = train(config)
    as_before_lanes(newest(config))
    monkeypatch.setattr("shards.loading.loader.default_canonical_nodes", lambda *_: 4)
    assert first + train(replace(config, max_steps=4)) == whole
    assert read_facts(newest(config)).canonical_nodes == 1


def test_other_lanes_are_refused(tiny_config: MakeConfig) -> None:
    train(tiny_config("ae", max_steps=1, loader=LANES))
    with pytest.raises(UserError, match=r"canonical_nodes was 4 .* and is 2 now; give the same, or leave it out"):
        Trainer(tiny_config("ae", max_steps=2, loader=replace(LANES, canonical_nodes=2)))
    with pytest.raises(UserError, match=r"canonical_nodes 3 does not divide .* of 16 units; use 2 or 4"):
        Trainer(tiny_config("ae", max_steps=2, loader=replace(LANES, canonical_nodes=3)))
