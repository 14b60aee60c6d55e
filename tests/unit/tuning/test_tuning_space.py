"""Spaces, axes, and how a trial's values become training options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from facegen.config import parse_args
from facegen.option_values import to_dict
from shards.base.errors import UserError
from tuning.reports.preset import write_preset
from tuning.search.axis import SearchAxis
from tuning.search.objective import Objective
from tuning.search.space import SPACES, Space, read_space, space_from_dict, space_to_dict
from tuning.trials.sweep_plan import SweepPlan, trial_name

VALUES: dict[str, Any] = {
    "family": "vae",
    "search": {"model.kld_weight": {"grid": [0.1, 0.2]}},
    "max_images": 1000,
}


def plan(space: Space, out: Path = Path("out")) -> SweepPlan:
    return SweepPlan(space, "data", out)


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_space_is_one_whose_trials_can_be_trained(file: Path) -> None:
    space = read_space(file.stem)
    params = {name: axis.examples for name, axis in space.search.items()}
    for position in (0, -1):
        chosen = {name: values[position] for name, values in params.items()}
        config = to_dict(plan(space).config("trial", chosen))
        assert config["max_images"] == space.max_images
        assert config["max_epochs"] is None
        for name, value in chosen.items():
            *groups, last = name.split(".")
            found = config
            for group in groups:
                found = found[group]
            assert found[last] == value
    assert space_from_dict(yaml.safe_load(yaml.safe_dump(space_to_dict(space))), "again") == space


def test_trials_are_a_group_in_the_trackers_that_are_asked_for(tmp_path: Path) -> None:
    asked = plan(space_from_dict({**VALUES, "options": {"monitor.trackers": ["wandb"]}}, "space"), tmp_path / "KLD (2)")
    params = {"model.kld_weight": 0.1}
    assert asked.config("trial", params).monitor.tracker_group == "KLD _2_"
    assert plan(space_from_dict(VALUES, "space")).config("trial", params).monitor.tracker_group is None


def test_the_shipped_spaces_search_what_the_report_did() -> None:
    assert read_space("kld_report").search["model.kld_weight"].grid == [0.2, 0.1, 0.01]
    assert read_space("beta").search["model.kld_weight"].grid == [2, 4, 5, 10]
    asha = read_space("kld_asha")
    assert asha.search["model.kld_weight"].loguniform == (1e-4, 1)
    assert asha.scheduler.kind == "asha"
    assert set(read_space("pbt").search) == {"optim.lr", "model.kld_weight"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"families": "vae"}, "did you mean 'family'"),
        ({"family": "vea"}, "did you mean 'vae'"),
        ({"max_images": "many"}, "expected a int"),
        ({"max_images": 0}, "at least 1"),
        ({"evaluate_every_images": 2000}, "from 1 to max_images"),
        ({"search": {}}, "names no option"),
        ({"search": {"optim.lr": {"grdi": [1]}}}, "did you mean 'grid'"),
        ({"search": {"optim.lr": {"grid": []}}}, "at least one value"),
        ({"search": {"optim.lr": {"grid": [1], "choice": [1]}}}, "exactly one of"),
        ({"search": {"optim.lr": {"uniform": [2, 1]}}}, "a lower and a higher"),
        ({"search": {"optim.lr": {"loguniform": [0, 1]}}}, "above 0"),
        ({"search": {"max_images": {"grid": [1]}}}, "use max_images of the space"),
        ({"options": {"checkpoint.every_images": 1}}, "use evaluate_every_images of the space"),
        ({"options": {"model.kld_weight": 1}}, "fixed and searched at once"),
        ({"num_samples": 2}, "search the option seed"),
        ({"searcher": "optuna"}, "searches no grids"),
        ({"scheduler": {"kind": "pbt"}}, "a choice or a range"),
        ({"scheduler": {"kind": "fifo", "reduction_factor": 2}}, "has no effect"),
        ({"scheduler": {"kind": "asha", "reduction_factor": 1}}, "above 1"),
        ({"scheduler": {"kind": "asha", "reduction_factor": float("nan")}}, "number above 1, not nan"),
        ({"scheduler": {"kind": "asha", "reduction_factor": float("inf")}}, "number above 1, not inf"),
        ({"scheduler": {"kind": "asha", "grace_images": 10**6}}, "more than the max_images of a trial"),
        ({"scheduler": {"kind": "asha", "reduction_factor": 1.0000001, "grace_images": 1}}, "at most 1000"),
        ({"scheduler": -1}, "'scheduler' is a section of options, not -1"),
        ({"search": -1}, "search"),
        ({"max_images": None}, "max_images"),
        ({"seed": None}, "'seed' cannot be null"),
        ({"options": {"optim.lr": float("nan")}}, "'options.optim.lr' must be a number"),
        ({"options": [1]}, "options"),
        ({"seed": 10**30}, "'seed' must be a number of at most 64 bits"),
        ({"objective": {"weights": {"msee": 1}}}, "did you mean 'mse'"),
        ({"objective": {"weights": {"mse": -1}}}, "positive number"),
    ],
)
def test_a_wrong_space_gets_a_sentence(changes: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as raised:
        space_from_dict(VALUES | changes, "f.yaml")
    assert words.lower() in str(raised.value).lower()
    assert str(raised.value).startswith("f.yaml: ")
    assert capsys.readouterr().err == ""


def test_population_based_training_needs_a_population_and_draws_by_itself() -> None:
    ranges = {"search": {"optim.lr": {"loguniform": [0.1, 1]}}, "scheduler": {"kind": "pbt"}}
    with pytest.raises(UserError, match="num_samples of at least 2"):
        space_from_dict(VALUES | ranges, "f.yaml")
    with pytest.raises(UserError, match="use searcher random"):
        space_from_dict(VALUES | ranges | {"num_samples": 4, "searcher": "optuna"}, "f.yaml")


def test_a_space_is_looked_up_by_name_or_by_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="near it: kld_asha"):
        read_space("kld_ahsa")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(VALUES | {"options": {"seed": 1}}))
    space = read_space(str(file), {"max_images": 64}, {"global_batch_size": 16})
    assert (space.max_images, space.options) == (64, {"seed": 1, "global_batch_size": 16})
    file.write_text("- a list")
    with pytest.raises(UserError, match="is not a space"):
        read_space(str(file))
    for content in (b"a: [", b"\xff", b"search: &a [*a]", b"max_images: " + b"9" * 5000):
        file.write_bytes(content)
        with pytest.raises(UserError, match="mine.yaml is not (YAML|UTF-8)"):
            read_space(str(file))
    file.write_text("options: [1]\n")
    with pytest.raises(UserError, match="option"):
        read_space(str(file), options={"seed": 1})


def test_trials_are_counted() -> None:
    search = {"model.kld_weight": {"grid": [1, 2, 3]}, "optim.lr": {"uniform": [1, 2]}, "seed": {"grid": [0, 1]}}
    assert space_from_dict(VALUES | {"search": search, "num_samples": 4}, "f").num_trials == 24


@pytest.mark.parametrize(
    ("values", "draws"),
    [
        ({"choice": ["a", ["b", "c"]]}, lambda value: value in ("a", ["b", "c"])),
        ({"uniform": [1, 2]}, lambda value: 1 <= value <= 2),
        ({"loguniform": [1e-4, 1]}, lambda value: 1e-4 <= value <= 1),
        ({"integer": [3, 5]}, lambda value: value in (3, 4, 5)),
    ],
)
def test_an_axis_draws_from_its_values(values: dict[str, Any], draws: Any) -> None:
    (kind, listed), *_ = values.items()
    domain = SearchAxis(**{kind: listed if kind == "choice" else tuple(listed)}).domain()
    drawn = [domain.sample() for _ in range(200)]
    assert all(draws(value) for value in drawn)
    if kind == "integer":
        assert set(drawn) == {3, 4, 5}


def test_trials_are_named_by_number_and_values() -> None:
    assert trial_name(3, {"model.kld_weight": 0.1, "optim.lr": 0.00123456}, False) == "003-kld_weight=0.1,lr=0.001235"
    assert trial_name(3, {"model.features.layers": ["a.0", "b/1"]}, False) == "003-layers=a.0+b_1"
    assert trial_name(12, {"optim.lr": 1}, True) == "012"
    assert len(trial_name(0, {f"option_{n}": n for n in range(50)}, False)) <= 80


def test_a_wrong_option_of_a_trial_raises_and_does_not_end_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    space = space_from_dict(VALUES | {"options": {"model.kld_wieght": 1}}, "f.yaml")
    with pytest.raises(UserError, match="did you mean 'model.kld_weight'"):
        plan(space).config("trial", {"model.kld_weight": 1})
    space = space_from_dict(VALUES | {"preset": "vae_lfv"}, "f.yaml")
    with pytest.raises(UserError, match="neither a file nor a preset"):
        plan(space).config("trial", {"model.kld_weight": 1})
    assert capsys.readouterr().err == ""


def test_a_score_is_low_where_metrics_are_good() -> None:
    objective = Objective({"mse": 100.0, "elbo": 0.5})
    assert objective.score({"mse": 0.01, "elbo": -40.0}) == pytest.approx(1 + 20)
    assert objective.score({"mse": 0.01, "elbo": -30.0}) < objective.score({"mse": 0.01, "elbo": -40.0})
    assert objective.describe() == "100 mse - 0.5 elbo"
    assert objective.parts == {"likelihood"}
    assert Objective().describe() == "mse"
    assert Objective({"elbo": 1.0}).describe() == "-elbo"


def test_the_best_configuration_is_a_preset_that_trains_the_same(tmp_path: Path) -> None:
    space = space_from_dict(VALUES | {"preset": "beta_vae_4", "family": "beta_vae", "options": {"seed": 3}}, "f.yaml")
    searched = {"model.kld_weight": 4.0, "optim.lr_of.autoencoder": 0.002}
    config = plan(space, tmp_path).config("trial", searched)
    run = Path(config.run)
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(to_dict(config)))
    write_preset(run, tmp_path / "best.yaml", "Best of two.\nReally.", [*searched])
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# Best of two.\n# Really.\nfamily: beta_vae\n")
    assert yaml.safe_load(text)["model"]["kld_weight"] == 4.0  # Named, though it is the family's default.
    assert yaml.safe_load(text)["optim"]["lr_of"] == {"autoencoder": 0.002}
    again = parse_args(["beta_vae", "--config", str(tmp_path / "best.yaml"), "--data", "data", "--run", "run"])
    ours, theirs = to_dict(config), to_dict(again)
    for values in (ours, theirs):
        for name in ("data", "run", "checkpoint", "monitor"):
            values.pop(name)
    assert ours == theirs
