"""Limits, presets, and configs as plain values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import yaml

from facegen.config import PRESETS, config_class, parse_args, resolve_presets
from facegen.families import FAMILIES, options_from_dict
from facegen.families.vae import VAEConfig
from facegen.option_values import to_dict
from facegen.options import AugmentConfig, CheckpointConfig, EMAConfig, MonitorConfig, OptimConfig
from facegen.runs.option_changes import differences
from shards.base.errors import UserError

NEEDED: dict[str, Any] = {"data": "d", "run": "r"}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 30 * 960),
        ({"max_steps": 7}, 7 * 32),
        ({"max_images": 320}, 320),
        ({"max_images": 321}, 352),  # Whole global batches.
        ({"max_epochs": 2}, 1920),
        ({"max_epochs": 0.5}, 480),
        ({"max_epochs": 1e-6}, 32),  # At least one step.
        ({"max_steps": 7, "max_images": 64}, 64),
        ({"max_steps": 7, "max_epochs": 100.0, "max_images": 10_000}, 224),
        ({"max_steps": 100_000}, 3_200_000),  # A limit beyond the default of 30 epochs counts.
    ],
)
def test_total_images(limits: dict[str, Any], expected: int) -> None:
    assert config_class("vae")(**NEEDED, global_batch_size=32, **limits).total_images(960) == expected


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_parses_with_its_family(preset: str) -> None:
    written = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    config = parse_args([written["family"], "--config", preset, "--data", "d", "--run", "r"])
    resolved = to_dict(config)

    def check(part: dict[str, Any], whole: dict[str, Any]) -> None:
        for name, value in part.items():
            if isinstance(value, dict):
                check(value, whole[name])
            else:
                assert whole[name] == value, name

    check(written, resolved)


def test_there_are_presets_for_the_runs_of_the_report() -> None:
    found = {path.stem for path in PRESETS.glob("*.yaml")}
    assert {"ae_lfw", "vae_lfw_kld_0.2", "vae_lfw_kld_0.1", "vae_lfw_kld_0.01", "vae_celeba_128", "vae_demo"} <= found
    assert {"beta_vae_2", "beta_vae_4", "beta_vae_5", "beta_vae_10", "beta_vae_500"} <= found


def test_presets_that_were_not_trained_here_say_so_and_who_did() -> None:
    papers = {"dcgan_report": "Radford", "vae_gan_larsen": "Larsen", "dfc_vae_vgg19": "Hou"}
    for preset in (*papers, "cvae_smile_gray", "beta_vae_500"):
        comment = (PRESETS / f"{preset}.yaml").read_text().partition("family:")[0]
        assert "Not trained here, for a GPU" in " ".join(comment.replace("#", " ").split()), preset
        assert papers.get(preset, "") in comment


@pytest.mark.parametrize("weight", ["0.2", "0.1", "0.01"])
def test_each_kld_weight_has_the_reports_preset_and_ours(weight: str) -> None:
    ours, report = (
        to_dict(parse_args(["vae", "--config", f"vae_lfw_kld_{weight}{kind}", "--data", "d", "--run", "r"]))
        for kind in ("", "_report")
    )
    assert ours["model"]["kld_weight"] == report["model"]["kld_weight"] == float(weight)
    assert ours["init"] == "pca" and report["init"] == "random"
    assert report["model"]["network"]["norm"] == "batch" and report["augment"]["saturation"] > 0


@pytest.mark.parametrize("form", [["--config", "vae_demo"], ["--config=vae_demo"]])
def test_preset_names_become_paths(form: list[str]) -> None:
    resolved = resolve_presets(["vae", *form])
    assert resolved[-1].removeprefix("--config=") == str(PRESETS / "vae_demo.yaml")


def test_an_unknown_preset_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UserError, match="vae_dmeo is neither a file nor a preset; near it:.*vae_demo"):
        resolve_presets(["vae", "--config", "vae_dmeo"])


def test_only_the_value_of_config_is_taken_for_a_preset() -> None:
    args = ["vae", "--data", "vae_demo", "--run", "beta_vae_2"]
    assert resolve_presets(args) == args


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_values_and_back(family: str) -> None:
    config = config_class(family)(**NEEDED)
    plain = to_dict(config)
    assert plain == yaml.safe_load(yaml.safe_dump(plain))
    assert plain["optim"]["betas"] == [0.9, 0.999]
    assert options_from_dict(family, plain["model"]) == config.model


def test_options_from_dict_is_checked() -> None:
    with pytest.raises((Exception, SystemExit)):
        options_from_dict("vae", {"latent_sise": 3})
    assert options_from_dict("vae", {"latent_size": 3}) == VAEConfig(latent_size=3)


def test_differences_name_the_option_and_both_values() -> None:
    old = {"seed": 0, "optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "gone": 1}
    new = {"seed": 0, "optim": {"lr": 0.2, "betas": [0.9, 0.99]}, "added": 2}
    assert differences(old, new) == [
        "added (was None, now 2)",
        "gone (was 1, now None)",
        "optim.lr (was 0.1, now 0.2)",
    ]
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, 0) for name in ("global_batch_size", "gradient_accumulation_steps", "max_images", "max_steps")]
    + [("max_epochs", 0.0), ("max_epochs", -1.0), ("max_epochs", math.nan), ("max_images", -5)],
)
def test_impossible_run_options_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        config_class("vae")(**NEEDED, **{name: value})


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (CheckpointConfig, "keep", 1),
        (CheckpointConfig, "every_images", 0),
        (EMAConfig, "half_life_images", -1),
        *((MonitorConfig, item.name, 0) for item in dataclasses.fields(MonitorConfig) if item.type == "int"),
    ],
)
def test_impossible_section_options_are_refused(section: type, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        section(**{name: value})


def test_sections_are_not_shared_between_configs() -> None:
    first, second = config_class("vae")(**NEEDED), config_class("vae")(**NEEDED)
    first.model.network.widths.append(5)
    first.optim.lr = 9
    assert second.model == VAEConfig()
    assert second.optim == OptimConfig()
    assert second.augment == AugmentConfig()
