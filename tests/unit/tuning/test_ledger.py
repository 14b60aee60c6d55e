"""Files of a sweep: the journal of a trial, the table of all, and what the sweep was started with."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shards.base.errors import UserError
from tuning.driver import old_pickles
from tuning.driver.schedulers import Population, ResumableASHA
from tuning.driver.sweep_progress import SweepProgress
from tuning.ledger import TrialRecord, ranked, read_ledger, table, write_ledger
from tuning.search.axis import SearchAxis
from tuning.search.objective import Objective
from tuning.search.space import SchedulerConfig, Space, space_from_dict, space_to_dict
from tuning.trials.journal import Journal
from tuning.trials.sweep_file import read_sweep, write_sweep
from tuning.trials.sweep_plan import SweepPlan, trial_name

SPACE = {"family": "vae", "search": {"optim.lr": {"uniform": [0.1, 1]}}, "max_images": 300}
# What Ray's files of an interrupted sweep name.
OLD_NAMES = {
    "tuning.axis:Axis": SearchAxis,
    "tuning.objective:Objective": Objective,
    "tuning.plan:Plan": SweepPlan,
    "tuning.plan:trial_name": trial_name,
    "tuning.progress:Progress": SweepProgress,
    "tuning.schedulers:Population": Population,
    "tuning.schedulers:ResumableASHA": ResumableASHA,
    "tuning.space:SchedulerConfig": SchedulerConfig,
    "tuning.space:Space": Space,
}


def test_a_journal_is_in_order_and_is_cut_with_its_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run")
    for images_seen in (64, 128, 192):
        journal.add({"images_seen": images_seen, "score": images_seen / 2})
    assert [entry["images_seen"] for entry in journal.after(64)] == [128, 192]
    journal.add({"images_seen": 128, "score": -1.0})  # A run that went back to 64 measures 128 again.
    assert Journal(tmp_path / "run").entries == [{"images_seen": 64, "score": 32.0}, {"images_seen": 128, "score": -1}]
    with open(tmp_path / "run" / "evaluations.jsonl", "a") as file:
        file.write('{"images_seen": 256, "sc')
    journal = Journal(tmp_path / "run")
    assert journal.has(128) and not journal.has(256)
    journal.cut(64)
    assert Journal(tmp_path / "run").entries == journal.entries == [{"images_seen": 64, "score": 32.0}]


def test_the_table_has_the_best_first_and_every_failure_with_its_reason(tmp_path: Path) -> None:
    records = [
        TrialRecord("000", {}, "finished", 100, {"score": 2.0, "mse": 2.0}),
        TrialRecord("001", {}, "failed", 50, {"score": 0.5, "mse": 0.5}, 3, "loss is not finite"),
        TrialRecord("002", {}, "stopped early", 50, {"score": 1.0, "mse": 1.0}),
        TrialRecord("003", {}, "waiting"),
    ]
    write_ledger(tmp_path, records)
    assert read_ledger(tmp_path) == records
    assert [record.name for record in ranked(records)] == ["002", "000", "003", "001"]
    lines = table(records).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["trial", "002", "000", "003", "001"]
    assert lines[-1] == "001 failed: loss is not finite"
    (tmp_path / "trials.json").write_text("[{")
    with pytest.raises(UserError, match="trials.json is not JSON"):
        read_ledger(tmp_path)
    with pytest.raises(UserError, match="holds no sweep"):
        read_ledger(tmp_path / "nowhere")


def test_a_table_of_the_first_release_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.json").write_text(json.dumps([{"name": "000", "params": {"seed": 1}, "status": "finished"}]))
    records = read_ledger(tmp_path)
    assert records == [TrialRecord("000", {"seed": 1}, "finished")]
    write_ledger(tmp_path, records)
    content = json.loads((tmp_path / "trials.json").read_text())
    assert (content["format_version"], len(content["trials"])) == (2, 1)
    (tmp_path / "trials.json").write_text(json.dumps(content | {"format_version": 3}))
    with pytest.raises(UserError, match="install a newer facegen"):
        read_ledger(tmp_path)
    (tmp_path / "trials.json").write_text('{"format_version": 2}')
    with pytest.raises(UserError, match="trials is missing"):
        read_ledger(tmp_path)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"name": 5}, r"trials\[0\].name should be a valid string, not 5"),
        ({"name": "../../elsewhere"}, r"trials\[0\].name .*, not '../../elsewhere'"),
        ({"name": ".."}, r"trials\[0\].name .*, not '..'"),
        ({"status": "lost"}, r"trials\[0\].status should be .*, not 'lost'"),
        ({"values": {"mse": "low"}}, r"trials\[0\].values.mse should be a valid number, not 'low'"),
        ({"images_seen": -1}, r"trials\[0\].images_seen should be .*, not -1"),
        ({"rank": 1}, r"trials\[0\].rank is not a field"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path: Path, change: dict[str, Any], finding: str) -> None:
    trial = {"name": "000", "params": {}, "status": "finished"} | change
    (tmp_path / "trials.json").write_text(json.dumps({"format_version": 2, "trials": [trial]}))
    with pytest.raises(UserError, match=f"trials.json: {finding}.*; rerun the sweep"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("content", ["space: 3", "data: [1]", "- 1", "space: {}\ndata: d\nx: 1", "a: &a [*a]", "x: ["])
def test_a_damaged_sweep_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    with pytest.raises(UserError, match=r"sweep.yaml.*; restore it from a copy"):
        read_sweep(tmp_path)


def test_options_that_spaces_got_later_have_their_defaults_in_an_earlier_sweep(tmp_path: Path) -> None:
    space = space_to_dict(space_from_dict(SPACE, "space"))
    write_sweep(tmp_path, {"space": space, "data": "data"})
    del space["searcher"], space["scheduler"]["quantile_fraction"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.yaml").write_text(yaml.safe_dump({"space": space, "data": "data"}))
    assert read_sweep(tmp_path / "old") == read_sweep(tmp_path)
    (tmp_path / "sweep.yaml").write_text("format_version: 99\nspace: {}\n")
    with pytest.raises(UserError, match="install a newer facegen"):
        read_sweep(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(tmp_path / "nowhere")


def test_pickles_of_the_first_release_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OLD_NAMES:
        monkeypatch.delitem(sys.modules, name.partition(":")[0], raising=False)
    old_pickles.make_readable()
    for name, now in OLD_NAMES.items():
        module, _, attribute = name.partition(":")
        assert pickle.loads(f"c{module}\n{attribute}\n.".encode()) is now
