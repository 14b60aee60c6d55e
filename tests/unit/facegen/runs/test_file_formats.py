"""Files of a run outlive a release: older ones are read as they were meant, newer ones are refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from facegen.config import parse_args
from facegen.model import load
from facegen.option_values import to_dict
from facegen.options import OptimConfig
from facegen.runs import file_formats
from facegen.runs.checkpoint import MARKER, newest_complete, write_complete
from facegen.runs.config_file import read_config
from facegen.runs.file_formats import Added, Change, Removed, Renamed, run_formats, upgrade_options, with_defaults
from facegen.runs.snapshot import DESCRIPTION, find_snapshot, read_description
from facegen.runs.state_file import STATE_FILE, read_facts
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from training_runs import MakeConfig, train

VERSION = 1 + len(file_formats.OPTION_HISTORY)
TOO_NEW = (
    rf"has format version {VERSION + 1} of a {{}}, and this facegen reads up to {VERSION}; install a newer facegen\.$"
)


def use(monkeypatch: pytest.MonkeyPatch, *history: Sequence[Change]) -> None:
    """Gives the program another history of its options, and with it another version."""
    config, state, snapshot = run_formats(history)
    monkeypatch.setattr(file_formats, "CONFIG", config)
    monkeypatch.setattr(file_formats, "STATE", state)
    monkeypatch.setattr(file_formats, "SNAPSHOT", snapshot)


def rewrite(directory: Path, name: str, change: Any) -> None:
    """Changes a JSON file of a complete directory."""
    contents = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MARKER}
    content = json.loads(contents[name])
    change(content)
    contents[name] = json.dumps(content).encode()
    write_complete(directory, lambda folder: [(folder / file).write_bytes(data) for file, data in contents.items()])


def newest_checkpoint(config: Any) -> Path:
    found = newest_complete(Path(config.run) / "checkpoints")
    assert found
    return found


def forget(*options: str) -> Any:
    """Makes a file of a release before these options, and before versions."""

    def change(content: dict[str, Any]) -> None:
        content.pop("format_version")
        for option in options:
            *sections, name = option.split(".")
            section = content["config"]
            for part in sections:
                section = section[part]
            del section[name]

    return change


def test_each_file_names_its_version(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=1)
    train(config)
    state = json.loads((newest_checkpoint(config) / STATE_FILE).read_text())
    snapshot = json.loads((find_snapshot(Path(config.run)) / DESCRIPTION).read_text())
    written = yaml.safe_load((Path(config.run) / "config.yaml").read_text())
    assert [next(iter(content.items())) for content in (state, snapshot, written)] == [("format_version", VERSION)] * 3
    assert read_config(Path(config.run)) == to_dict(config)


@pytest.mark.parametrize(
    "option", ["seed", "optim.max_grad_norm", "model.latent_size", "model.network.dropout", "optim"]
)
def test_a_run_from_before_an_option_resumes(option: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=1, optim=OptimConfig(), model={"latent_size": 128})
    train(config)
    rewrite(newest_checkpoint(config), STATE_FILE, forget(option))
    assert train(replace(config, max_steps=2)).images_seen == 32


def test_an_option_that_is_not_its_default_still_counts_as_changed(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=1, optim=OptimConfig(max_grad_norm=1.0))
    train(config)
    rewrite(newest_checkpoint(config), STATE_FILE, forget("optim.max_grad_norm"))
    with pytest.raises(UserError, match=r"optim.max_grad_norm \(was None, now 1.0\)"):
        Trainer(replace(config, max_steps=2))


def test_an_older_default_is_the_one_that_counts(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(max_steps=1, optim=OptimConfig(max_grad_norm=1.0))
    train(config)
    rewrite(newest_checkpoint(config), STATE_FILE, forget("optim.max_grad_norm"))
    use(monkeypatch, [Added("optim.max_grad_norm", 1.0)])
    assert train(replace(config, max_steps=2)).images_seen == 32
    rewrite(newest_checkpoint(config), STATE_FILE, forget("optim.max_grad_norm"))
    with pytest.raises(UserError, match=r"optim.max_grad_norm \(was 1.0, now None\)"):
        Trainer(replace(config, max_steps=3, optim=OptimConfig()))


def test_renamed_and_removed_options_do_not_block_a_resume(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=1)
    train(config)

    def as_before(content: dict[str, Any]) -> None:
        forget()(content)
        content["config"]["optim"]["learning_rate"] = content["config"]["optim"].pop("lr")
        content["config"]["fancy"] = True

    rewrite(newest_checkpoint(config), STATE_FILE, as_before)
    with pytest.raises(UserError, match=r"fancy \(was True, now None\), optim.learning_rate \(was 0.001, now None\)"):
        Trainer(replace(config, max_steps=2))
    use(monkeypatch, [Removed("fancy")], [Renamed("optim.learning_rate", "optim.lr")])
    assert train(replace(config, max_steps=2)).images_seen == 32
    assert json.loads((newest_checkpoint(config) / STATE_FILE).read_text())["format_version"] == 3


def test_an_old_snapshot_and_an_old_config_get_the_older_default(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(max_steps=1)
    train(config)
    run = Path(config.run)
    rewrite(find_snapshot(run), DESCRIPTION, forget("model.latent_size"))
    old = yaml.safe_load((run / "config.yaml").read_text())
    del old["format_version"], old["model"]["latent_size"]
    (run / "config.yaml").write_text(yaml.safe_dump(old))
    use(monkeypatch, [Added("model.latent_size", 6, families=("vae",)), Added("model.latent_size", 9)])
    assert load(run).latent_size == 6
    assert parse_args(["vae", "--config", str(run / "config.yaml")]) == config
    assert parse_args(["vae", f"--config={run / 'config.yaml'}", "--seed", "3"]) == replace(config, seed=3)


def test_a_file_written_by_hand_has_the_defaults_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hand.yaml").write_text("family: vae\nseed: 4\n")
    use(monkeypatch, [Added("model.latent_size", 6)])
    config = parse_args(["vae", "--config", str(tmp_path / "hand.yaml"), "--data", "d", "--run", "r"])
    assert (config.seed, config.model.latent_size) == (4, 128)


def test_newer_files_are_one_sentence(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(max_steps=1)
    use(monkeypatch, *file_formats.OPTION_HISTORY, [])
    train(config)
    monkeypatch.undo()
    with pytest.raises(UserError, match=TOO_NEW.format("training state")):
        Trainer(config)
    with pytest.raises(UserError, match=TOO_NEW.format("training state")):
        read_facts(newest_checkpoint(config))
    with pytest.raises(UserError, match=TOO_NEW.format("snapshot")):
        load(config.run)
    with pytest.raises(UserError, match=TOO_NEW.format("snapshot")):
        read_description(find_snapshot(Path(config.run)))
    with pytest.raises(UserError, match=TOO_NEW.format("training config")):
        parse_args(["vae", "--config", str(Path(config.run) / "config.yaml")])


def test_options_are_upgraded_where_they_stand() -> None:
    changes = [Added("a.new", 1), Added("only", 2, families=("ae",)), Renamed("b.old", "c.deep.new"), Removed("gone")]
    assert upgrade_options({"family": "vae", "b": {"old": 3}, "gone": 4}, changes) == {
        "family": "vae",
        "a": {"new": 1},
        "b": {},
        "c": {"deep": {"new": 3}},
    }
    assert upgrade_options({"family": "ae", "a": {"new": 5}}, changes)["a"] == {"new": 5}


def test_missing_options_are_filled_in_at_any_depth() -> None:
    defaults = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [1, 2]}
    assert with_defaults({"b": {"d": {}}, "f": [], "g": 4}, defaults) == {
        "a": 1,
        "b": {"c": 2, "d": {"e": 3}},
        "f": [],
        "g": 4,
    }
