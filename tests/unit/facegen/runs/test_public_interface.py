"""The public interface of facegen: training and models from Python, and how little an import loads."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import facegen
from facegen.config import config_class, parse_args
from facegen.families.vae import VAEConfig
from facegen.networks.conv_config import ConvNetConfig
from facegen.options import OptimConfig
from facegen.reporting.reporter import Reporter
from shards.base.errors import UserError

NEEDED = {"data": "d", "run": "r"}


@pytest.mark.parametrize("statement", ["import facegen", "from facegen import TrainConfig", "import facegen.options"])
def test_options_load_without_torch(statement: str) -> None:
    command = [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "accelerate", "jsonargparse", "yaml"} & set(modules)


def test_every_public_name_is_documented_and_known_to_type_checkers() -> None:
    tree = ast.parse(Path(facegen.__file__).read_text())
    imported = {
        alias.name: f"{node.module}:{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == vars(facegen)["_Room__published"]
    assert sorted(imported) == facegen.__all__ == [name for name in dir(facegen) if name in facegen.__all__]
    assert all(getattr(facegen, name).__doc__ for name in facegen.__all__)


def test_the_function_stays_when_the_command_of_its_name_is_imported() -> None:
    code = "import facegen, facegen.train; from facegen.train import main; print(facegen.train.__qualname__)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "train"


def test_a_family_a_preset_and_a_file_make_a_config(tmp_path: Path) -> None:
    assert facegen.make_config("ae", **NEEDED) == config_class("ae")(**NEEDED)  # type: ignore[arg-type]
    preset = parse_args(["vae", "--config", "vae_demo", "--data", "d", "--run", "r", "--seed", "3"])
    assert facegen.make_config("vae_demo", seed=3, **NEEDED) == preset
    (tmp_path / "own.yaml").write_text("family: dcgan\nseed: 5\n")
    config = facegen.make_config(str(tmp_path / "own.yaml"), **NEEDED)
    assert (config.family, config.seed) == ("dcgan", 5)


def test_paths_are_texts_or_path_objects(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("family: dcgan\n")
    as_text = facegen.make_config(str(tmp_path / "own.yaml"), data="d", run="r")
    assert facegen.make_config(tmp_path / "own.yaml", data=Path("d"), run=Path("r")) == as_text
    with pytest.raises(UserError, match="neither a file nor a preset"):
        facegen.train(tmp_path / "other.yaml", data="d", run="r")


def test_sections_are_dicts_dataclasses_or_dotted_names() -> None:
    optim = OptimConfig(lr=0.5, betas=(0.5, 0.99), max_grad_norm=1.0)
    by_class = facegen.make_config("vae", optim=optim, model=VAEConfig(network=ConvNetConfig(widths=[4])), **NEEDED)
    by_dict = facegen.make_config(
        "vae",
        optim={"lr": 0.5, "betas": [0.5, 0.99], "max_grad_norm": 1.0},
        model={"network": {"widths": [4]}},
        **NEEDED,
    )
    by_name = facegen.make_config(
        "vae",
        **NEEDED,
        **{"optim.lr": 0.5, "optim.betas": (0.5, 0.99), "optim.max_grad_norm": 1.0, "model.network.widths": [4]},
    )
    assert by_class == by_dict == by_name
    assert (by_name.optim, by_name.model.network.widths) == (optim, [4])
    switched = facegen.make_config("vae", augment={"flip": False}, max_steps=None, **NEEDED)
    assert (switched.augment.flip, switched.max_steps) == (False, None)


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("vae_dmeo", NEEDED, "vae_dmeo is neither a file nor a preset; near it:.*vae_demo"),
        ("vae", NEEDED | {"optm": {"lr": 1}}, "there is no option 'optm.lr'; did you mean 'optim.lr'?"),
        ("vae", NEEDED | {"optim": {"lr": -1}}, "optim.lr must be a positive number, not -1"),
        ("vae", {"run": "r"}, "data"),
    ],
)
def test_bad_options_are_one_sentence(what: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        facegen.make_config(what, **options)
    assert "\n" not in str(error.value)


def test_a_file_without_a_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("seed: 5\n")
    with pytest.raises(UserError, match="own.yaml names no family; add one"):
        facegen.make_config(str(tmp_path / "own.yaml"), **NEEDED)


def test_a_run_is_trained_resumed_and_loaded_from_python(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "data": str(tiny_dataset),
        "run": str(tmp_path / "run"),
        "global_batch_size": 16,
        "loader": {"num_threads": 0},
        "model": {"latent_size": 6, "network": {"widths": [4, 8]}},
    }
    trained = facegen.train("vae", max_steps=2, **options)
    assert trained == (tmp_path / "run", 32, True)
    assert facegen.load(trained.run).latent_size == 6
    config = facegen.make_config("vae", max_steps=4, **options)

    right = Reporter.open

    def opened(self: Reporter, *args: Any) -> None:
        right(self, *args)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "open", opened)
        assert facegen.train(config) == (tmp_path / "run", 32, False)
    assert facegen.train(config) == (tmp_path / "run", 64, True)
    with pytest.raises(UserError, match="give max_steps to the config"):
        facegen.train(config, max_steps=5)
