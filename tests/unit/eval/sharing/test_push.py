"""Models on the Hub and in folders: what is pushed is loaded again, bit by bit, wherever a run is named."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants

import eval
from eval.push import main
from facegen import fit_sampler
from facegen.model import Model, load
from facegen.options import TrainConfig
from facegen.training.trainer import Trainer
from hub_server import Hub, Repository, serving
from shards.base.errors import UserError
from tiny_runs import untrained_run

OLD = Path(__file__).parents[3] / "fixtures" / "release_0_1"
NAME = "someone/faces"
NO_TOKEN = "hub:someone/faces cannot be written without a token; run hf auth login, or set HF_TOKEN."


@pytest.fixture(scope="module")
def measured(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with a sampler, and a report that has it beside the run without."""
    folder = tmp_path_factory.mktemp("measured")
    run = Path(shutil.copytree(OLD / "run", folder / "run"))
    options = {"only": ["reconstruction", "samples"], "baselines": []}
    eval.report([run, f"{run}:gaussian"], OLD / "dataset", folder / "report", **options)
    return run, folder / "report"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "cache") as running:
        yield running


def assert_same(first: Model, second: Model, sampler: str | None = "gaussian") -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    assert np.array_equal(first.encode(images), second.encode(images))
    assert np.array_equal(first.reconstruct(images), second.reconstruct(images))
    assert torch.equal(first.sample(4, seed=3), second.sample(4, seed=3))
    assert first.samplers == second.samplers
    if sampler:
        assert torch.equal(first.with_sampler(sampler).sample(4), second.with_sampler(sampler).sample(4))
    assert (first.name, first.images_seen, first.weights) == (second.name, second.images_seen, second.weights)


def test_a_folder_is_loaded_again(measured: tuple[Path, Path], tmp_path: Path) -> None:
    model = load(measured[0])
    folder = model.save_pretrained(tmp_path / "repository")
    assert_same(model, load(folder))
    assert torch.equal(load(f"{folder}:gaussian").sample(2), load(f"{measured[0]}:gaussian").sample(2))
    raw = load(measured[0], weights="raw").save_pretrained(tmp_path / "raw")
    assert load(raw).weights == "raw"
    assert_same(load(measured[0], weights="raw"), load(raw), sampler=None)
    with pytest.raises(UserError, match="has no ema weights; it has raw"):
        load(raw, weights="ema")


def test_a_folder_is_replaced_and_others_are_left_alone(measured: tuple[Path, Path], tmp_path: Path) -> None:
    folder = load(measured[0]).save_pretrained(tmp_path / "repository")
    (folder / "config.json").unlink()  # As a kill leaves it.
    load(measured[0], weights="raw").save_pretrained(folder)
    assert load(folder).weights == "raw" and load(folder).samplers == []
    with pytest.raises(UserError, match="is the model itself"):
        load(folder).save_pretrained(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(UserError, match="holds other files; give a new or empty folder"):
        load(measured[0]).save_pretrained(tmp_path / "mine")


def test_a_sampler_is_fitted_to_a_folder(
    measured: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load(measured[0]).save_pretrained(tmp_path / "repository")
    arguments = ["gaussian", str(folder), "--data", str(OLD / "dataset"), "--name", "mine", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["fit_sampler", *arguments])
    fit_sampler.main()
    assert load(folder).samplers == ["gaussian", "mine"]
    monkeypatch.setattr(sys, "argv", ["fit_sampler", "gaussian", f"hub:{NAME}", "--data", str(OLD / "dataset")])
    with pytest.raises(UserError, match="a sampler is stored in its run; download hub:someone/faces"):
        fit_sampler.main()


def test_nothing_of_this_machine_is_shared(tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset)
    before = load(run).description
    assert "identity" in before.label_fields and before.config["run"] == str(run)
    folder = load(run).save_pretrained(tmp_path / "repository")
    text = (folder / "config.json").read_text()
    assert str(tmp_path) not in text and str(tiny_dataset.parent) not in text
    described = load(folder).description
    assert described.config["data"] == tiny_dataset.name and described.config["run"] == "run"
    assert described.label_fields and not any(label["kind"] == "class" for label in described.label_fields.values())


def test_a_push_is_loaded_again_by_name_and_by_commit(hub: Hub, measured: tuple[Path, Path]) -> None:
    run, made = measured
    first = eval.push(f"{run}:gaussian", NAME, report=str(made), license="cc-by-4.0", private=True)
    model = load(run)
    assert_same(model, load(f"hub:{NAME}"))
    assert_same(model, load(first))
    assert torch.equal(load(f"hub:{NAME}:gaussian").sample(2), load(f"{run}:gaussian").sample(2))
    repository = hub.repositories["model", NAME]
    assert repository.private
    assert len(repository.commits) == 2  # The empty one, and one push.
    second = eval.push(load(run, weights="raw").save_pretrained(run.parent / "raw"), NAME)
    assert load(f"hub:{NAME}").weights == load(second).weights == "raw"
    assert load(f"hub:{NAME}").samplers == []
    assert not any(name.startswith(("figures/", "samplers/")) for name in repository.commits[-1])
    assert_same(model, load(first))
    assert load(f"{first}:gaussian").sampler == "gaussian"
    repository.tags["v1"] = 1
    assert_same(model, load(f"hub:{NAME}@v1"))


def test_the_model_card_is_what_the_hub_reads(hub: Hub, measured: tuple[Path, Path]) -> None:
    run, made = measured
    eval.push(f"{run}:gaussian", NAME, report=made, license="cc-by-4.0")
    files = hub.repositories["model", NAME].commits[-1]
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "facegen"
    assert card.data.pipeline_tag == "unconditional-image-generation"
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    written = json.loads((made / "report.json").read_text())["runs"][1]
    assert written["name"] == "run:gaussian"
    assert results["mse"] == written["measures"]["mse"]["value"]
    assert set(results) >= {"mse", "psnr", "ssim"}
    shown = [name for name in files if name.startswith("figures/")]
    assert {name.partition("-")[2] for name in shown} >= {"samples.png", "samples_by_std.png"}
    for name in shown:
        assert files[name] == (made / name).read_bytes()
        assert f"]({name})" in card.text
    assert 'facegen.load("hub:someone/faces:gaussian")' in card.text


def test_a_report_of_another_model_is_refused(
    measured: tuple[Path, Path], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = untrained_run(tmp_path / "other", tiny_dataset)
    with pytest.raises(UserError, match=r"not of other after 640 images \(raw\), but of run after 128 images \(EMA\)"):
        eval.push(other, NAME, report=measured[1], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    main([str(other), NAME, "--out", str(tmp_path / "out")])
    assert "Not measured: it was pushed without a report." in (tmp_path / "out" / "README.md").read_text()
    assert capsys.readouterr().err.startswith("note: without --license")
    assert load(tmp_path / "out").name == "other"


def test_only_descriptions_and_tensors_are_read(hub: Hub, measured: tuple[Path, Path]) -> None:
    eval.push(measured[0], NAME)
    files = hub.repositories["model", NAME].commits[-1]
    files |= {"modeling.py": b"raise SystemExit", "pytorch_model.bin": b"\x80", "samplers/gaussian/run.py": b""}
    load(f"hub:{NAME}")
    assert {"config.json", "model.safetensors", "samplers/gaussian/sampler.safetensors"} <= set(hub.sent)
    assert not any(name.endswith((".py", ".bin", ".md", ".png")) for name in hub.sent)
    hub.repositories["model", "someone/pickled"] = Repository(commits=[{"pytorch_model.bin": b"\x80"}])
    with pytest.raises(UserError, match="hub:someone/pickled has no config.json and model.safetensors"):
        load("hub:someone/pickled")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hub:someone/else", "there is no hub:someone/else, or it is private"),
        ("hub:someone/faces@v9", "hub:someone/faces@v9: there is no such revision"),
        ("hub:someone", "'hub:someone' is not an address on the Hub; give hub:USER/NAME"),
        ("hub:a/b/c", "'hub:a/b/c' is not an address on the Hub"),
        ("hub:../..", "is not an address on the Hub"),
        ("hub:someone/faces@", "is not an address on the Hub"),
        ("hub:someone/faces:nobody", "has no sampler nobody"),
        (f"hub:someone/{'x' * 100}", "is not a name that the Hub takes"),
    ],
)
def test_what_cannot_be_loaded(hub: Hub, measured: tuple[Path, Path], address: str, sentence: str) -> None:
    eval.push(measured[0], NAME)
    with pytest.raises(UserError, match=sentence):
        load(address)


def test_a_private_repository_without_a_token(
    hub: Hub, measured: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    eval.push(measured[0], NAME, private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="or it is private; check the name; if it is private, run hf auth login"):
        load(f"hub:{NAME}")
    with pytest.raises(UserError, match=NO_TOKEN):
        eval.push(measured[0], NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="may not be written with this token .*; run hf auth login"):
        eval.push(measured[0], NAME)


def test_what_was_loaded_once_is_loaded_offline(
    hub: Hub, measured: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    eval.push(measured[0], NAME)
    load(f"hub:{NAME}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(load(measured[0]), load(f"hub:{NAME}"))
    with pytest.raises(UserError, match="hub:someone/other is not in the cache, and the Hub does not answer"):
        load("hub:someone/other")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, measured: tuple[Path, Path]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (lambda: load(f"hub:{NAME}"), lambda: eval.push(measured[0], NAME)):
        with pytest.raises(UserError, match=r"pip install 'facegen\[hub\]'"):
            use()


@pytest.mark.parametrize("name", ["faces", "a/b/c", "../faces", "a b/c", ""])
def test_a_name_that_no_repository_has(name: str, measured: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="the repository must be USER/NAME"):
        eval.push(measured[0], name)


def test_training_begins_from_the_hub(hub: Hub, tiny_config: Callable[..., TrainConfig], tiny_dataset: Path) -> None:
    run = untrained_run(Path(tiny_config().run).parent / "first", tiny_dataset)
    eval.push(run, NAME)
    first: dict[str, Any] = {}

    def on_step(trainer: Trainer, *_: Any) -> None:
        first.setdefault("weights", {name: value.clone() for name, value in trainer.family.state_dict().items()})

    starts = []
    for number, init in enumerate((str(run), f"hub:{NAME}")):
        config = tiny_config(init=init, run=str(run.parent / str(number)), max_steps=1)
        Trainer(config).fit(on_step)
        starts.append(first.pop("weights"))
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())


def test_a_flow_is_loaded_without_its_autoencoder(hub: Hub, tiny_dataset: Path, tmp_path: Path) -> None:
    model = load(untrained_run(tmp_path / "flow", tiny_dataset, "flow"))
    eval.push(tmp_path / "flow", NAME)
    shutil.rmtree(tmp_path / "flow")
    loaded = load(f"hub:{NAME}")
    assert torch.equal(model.sample(4), loaded.sample(4))


def test_a_report_names_a_model_on_the_hub(hub: Hub, measured: tuple[Path, Path], tmp_path: Path) -> None:
    eval.push(measured[0], NAME)
    runs = [str(measured[0]), f"hub:{NAME}:gaussian"]
    made = eval.report(runs, OLD / "dataset", tmp_path / "report", only=["reconstruction"], baselines=[])
    assert made.runs[0].measures == made.runs[1].measures
    assert [run.path for run in made.runs] == runs
    assert [run.name for run in made.runs] == ["run", "run:gaussian"]
