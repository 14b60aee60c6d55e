"""Sweeps end to end, on one Ray for all tests of this file: failures, population based training, storage."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facegen.config import parse_args
from facegen.processes.group import make_accelerator
from facegen.runs.snapshot import find_snapshot
from failing_disk import fail_at_every_change
from launching import json_lines
from shards.base.errors import UserError
from shards.execution.ray_connection import connected
from sweeps import write_space
from tuning.driver.cluster import Need, max_concurrent
from tuning.driver.sweep_folder import claim, make_plan
from tuning.driver.tuner import run_trials
from tuning.ledger import read_ledger
from tuning.report import SweepReportConfig, write_sweep_report
from tuning.sweep_config import SweepConfig


@pytest.fixture(scope="module", autouse=True)
def a_ray_of_two_cpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with connected(None, 2):
            yield


def run(config: SweepConfig) -> None:
    plan = make_plan(config)
    run_trials(config, plan, claim(plan), max_concurrent(Need.of(config)))


def test_a_sweep_from_its_space_to_its_report(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = write_space(tmp_path / "space.yaml", search={"optim.lr": {"grid": [1e-3, 1e25]}})
    config = SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "out"), max_failures=1, keep_best=0)
    run(config)
    good, bad = read_ledger(tmp_path / "out")
    # One trial finishes; the other fails, is retried, and is given up with its reason.
    assert (good.name, good.status, good.images_seen) == ("000-lr=0.001", "finished", 256)
    assert (bad.status, bad.num_failures) == ("failed", 2)
    assert "is not finite" in bad.error
    said = capsys.readouterr().out
    assert "001-lr=1e+25 failed and is retried: training stopped" in said
    assert re.search(r"000-lr=0.001: 256 images \| score 0\.\d+ \| mse 0\.\d+ \| kl", said)
    # Its directory is an ordinary run, and its scores are those of training's own validation.
    trial = tmp_path / "out" / "trials" / good.name
    validated = {
        line["images_seen"]: line["val/mse"] for line in json_lines(trial / "metrics.jsonl") if "val/mse" in line
    }
    evaluated = {line["images_seen"]: line["score"] for line in json_lines(trial / "evaluations.jsonl")}
    assert validated == evaluated and list(validated) == [64, 128, 192, 256]
    assert "trains from 0 to 256 images" in (trial / "train.log").read_text()
    # With keep_best=0 it lost its checkpoints, but has its newest weights.
    assert not (trial / "checkpoints").exists()
    assert [path.name for path in (trial / "snapshots").iterdir()] == ["images_000000000256"]

    # The same command does nothing, and reads no file that was planted among Ray's; another space is refused.
    (tmp_path / "out" / "ray" / "sweep" / "tuner.pkl").write_bytes(b"no pickle")
    before = (trial / "metrics.jsonl").stat().st_mtime_ns
    run(config)
    assert "resuming the sweep" in capsys.readouterr().out
    assert (trial / "metrics.jsonl").stat().st_mtime_ns == before
    assert read_ledger(tmp_path / "out") == [good, bad]
    other = SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "out"), max_images=512)
    with pytest.raises(UserError, match=r"other options: space.max_images \(was 256, now 512\)"):
        claim(make_plan(other))

    request = SweepReportConfig(
        str(tmp_path / "out"), str(tiny_dataset), num_images=20, only=["reconstruction", "likelihood", "latent"]
    )
    write_sweep_report(request, make_accelerator())
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'href="reports/000-lr=0.001/report.html"' in page
    assert (tmp_path / "out" / "reports" / "000-lr=0.001" / "report.html").is_file()
    assert "001-lr=1e+25 failed: training stopped" in page
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [trial["is_best"] for trial in content["trials"]] == [True, False]
    best = ["--config", str(tmp_path / "out" / "best.yaml"), "--data", str(tiny_dataset), "--run", "run"]
    assert parse_args(["vae", *best]).optim.lr == 1e-3


def test_the_worst_trials_continue_from_the_best_ones_state(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "space.yaml",
        search={"optim.lr": {"choice": [1e-8, 1e-2]}},
        scheduler={"kind": "pbt", "quantile_fraction": 0.5},
        num_samples=4,
        seed=2,
        max_images=192,
    )
    run(SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "out")))
    records = read_ledger(tmp_path / "out")
    assert [(record.status, record.images_seen) for record in records] == [("finished", 192)] * 4
    taken = [record for record in records if record.took_over_from]
    assert taken
    for record in taken:
        run_dir = tmp_path / "out" / "trials" / record.name
        branches = json_lines(run_dir / "branches.jsonl")
        assert [branch["from"] for branch in branches] == record.took_over_from
        assert record.name not in record.took_over_from
        # It continued from the other one's moment, with the options of its last branch.
        log = (run_dir / "train.log").read_text()
        assert all(f"resumes at {branch['images_seen']} to 192 images" in log for branch in branches)
        assert branches[-1]["params"] == record.params
        seen = [line["images_seen"] for line in json_lines(run_dir / "metrics.jsonl")]
        assert seen == sorted(seen) and seen[-1] == 192


def test_optuna_proposes_and_an_objective_may_need_an_evaluation(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "space.yaml",
        search={"model.kld_weight": {"loguniform": [1e-3, 1]}},
        searcher="optuna",
        num_samples=2,
        max_images=64,
        objective={"weights": {"mse": 100, "bits_per_dim": 1}, "num_images": 20},
    )
    run(SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "out")))
    records = read_ledger(tmp_path / "out")
    assert len({record.params["model.kld_weight"] for record in records}) == 2
    for record in records:
        assert record.status == "finished"
        values = record.values
        assert values["score"] == pytest.approx(100 * values["mse"] + values["bits_per_dim"])


def test_runs_come_from_a_storage_where_machines_share_no_files(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", search={"seed": {"grid": [0, 1]}})
    url = f"local://{tmp_path / 'storage'}"  # A protocol of fsspec that pyarrow does not know.
    config = SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "out"), storage=url, keep_best=1)
    run(config)
    records = read_ledger(tmp_path / "out")
    assert [record.status for record in records] == ["finished"] * 2
    best = min(records, key=lambda record: record.score or 0.0)
    for record in records:
        kept, copy = (root / "trials" / record.name for root in (tmp_path / "out", tmp_path / "storage"))
        assert (kept / "checkpoints").exists() == (copy / "checkpoints").exists() == (record is best)
        assert (kept / "evaluations.jsonl").read_bytes() == (copy / "evaluations.jsonl").read_bytes()
        assert find_snapshot(kept).name == "images_000000000256"
    assert not (tmp_path / "out" / "ray").exists()


def test_a_sweep_that_was_moved_resumes_where_it_is_now(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "space.yaml", search={"optim.lr": {"grid": [1e-3, 1e25]}}, scheduler={"kind": "asha"}
    )
    before, now = tmp_path / "before", tmp_path / "now"
    run(SweepConfig(str(space), str(tiny_dataset), str(before), max_failures=0))
    good, bad = read_ledger(before)
    before.rename(now)
    run(SweepConfig(str(space), str(tiny_dataset), str(now), trust=True, retry_failed=True, keep_best=0))
    assert not before.exists()
    assert read_ledger(now) == [good, replace(bad, num_failures=bad.num_failures + 1)]
    assert not (now / "trials" / good.name / "checkpoints").exists()  # As this call asks, not the first.


@pytest.mark.slow
def test_a_disk_that_fails_at_each_write_of_the_driver(tiny_dataset: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "space.yaml", search={"seed": {"grid": [0]}}, max_images=64)

    def command(folder: Path) -> None:
        run(SweepConfig(str(space), str(tiny_dataset), str(folder / "out")))
        request = SweepReportConfig(str(folder / "out"), str(tiny_dataset), num_images=20, only=["reconstruction"])
        write_sweep_report(request, make_accelerator())

    def result(folder: Path) -> list[dict[str, Any]]:
        trials = json.loads((folder / "out" / "report.json").read_text())["trials"]
        return [{name: trial[name] for name in ("name", "status", "measures")} for trial in trials]

    faults = (errno.ENOSPC, errno.EIO, errno.EROFS)
    failed = fail_at_every_change(tmp_path / "sweeps", faults, command, result, (UserError,))
    assert any("trials.json" in change for change in failed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpus_per_trial": 64}, "a trial takes 64 CPUs, but Ray has 2 CPUs, 0 GPUs"),
        ({"gpus_per_trial": 1}, "1 CPUs and 1 GPUs"),
        ({"workers_per_trial": 3, "cpus_per_trial": 3}, "3 workers with 1 CPUs each"),
    ],
)
def test_a_trial_that_fits_nowhere_is_refused_at_once(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        max_concurrent(Need.of(SweepConfig("kld_asha", "data", "out", **options)))


def test_as_many_trials_run_at_once_as_fit() -> None:
    assert max_concurrent(Need(1, 1, 0)) == 2
    assert max_concurrent(Need(1, 0.5, 0)) == 4
    assert max_concurrent(Need(2, 1, 0)) == 1


def test_what_does_not_go_together_is_said_before_anything_trains(tiny_dataset: Path, tmp_path: Path) -> None:
    def refused(words: str, **fields) -> None:
        space = write_space(tmp_path / "space.yaml", **fields)
        with pytest.raises(UserError, match=words):
            make_plan(SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "new")))
        assert not (tmp_path / "new").exists()

    refused("did you mean 'optim.lr'", search={"optim.lrr": {"grid": [1]}})
    refused("must be a positive number", search={"optim.lr": {"grid": [1, -1]}})
    refused("has no held-out metric accuracy; it has mse, kl", objective={"weights": {"accuracy": 1}})
    population = {"scheduler": {"kind": "pbt"}, "num_samples": 2, "options": {"model.latent_size": 8}}
    widths = {"model.network.widths": {"choice": [[8, 16], [16, 16]]}}
    options = {name: value for name, value in population["options"].items() if name not in widths}
    space = write_space(tmp_path / "space.yaml", **{**population, "options": options, "search": widths})
    space.write_text(re.sub(r"(?m)^  model\.network\.widths:\n  - 8\n  - 16\n", "", space.read_text()))
    with pytest.raises(UserError, match="model.network.widths changes the networks"):
        make_plan(SweepConfig(str(space), str(tiny_dataset), str(tmp_path / "new")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    config = SweepConfig(str(write_space(tmp_path / "space.yaml")), str(tiny_dataset), str(tmp_path / "other"))
    with pytest.raises(UserError, match="holds other files"):
        claim(make_plan(config))
