"""What a run trains on, what it logs, and what it leaves in its directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from facegen.networks.conv_config import ConvNetConfig
from facegen.options import CheckpointConfig, EarlyStopConfig, MonitorConfig, OptimConfig
from facegen.runs.snapshot import find_snapshot, read_description
from facegen.runs.state_file import read_facts
from shards.dataset.dataset import Dataset
from shards.pack import main as pack
from training_runs import (
    RICH,
    MakeConfig,
    assert_equal,
    assert_scalars_equal_events,
    checkpoints_of,
    lines_of,
    metrics_of,
    train,
)


def test_dry_run_trains_one_step_and_keeps_no_file(tiny_config: MakeConfig, tmp_path: Path) -> None:
    steps: list[int] = []
    outcome = train(tiny_config(dry_run=True, max_steps=100), lambda trainer, *_: steps.append(trainer.step))
    assert (outcome.exit_code, steps) == (0, [1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [{"max_steps": 2}, {"max_images": 20}, {"max_epochs": 0.15}])
def test_limits(limit: dict[str, Any], tiny_config: MakeConfig) -> None:
    assert train(tiny_config(**{"max_steps": None} | limit)).images_seen == 32


def test_a_run_leaves_config_metrics_pictures_checkpoints_and_snapshots(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(
        max_steps=6,
        monitor=MonitorConfig(
            log_every_images=32, grid_every_images=64, validate_every_images=48, num_validation_images=20
        ),
        checkpoint=CheckpointConfig(every_images=32),
        **RICH,
    )
    train(config)
    run = Path(config.run)
    assert {"config.yaml", "metrics.jsonl", "pictures", "checkpoints", "snapshots"} <= {
        path.name for path in run.iterdir()
    }
    assert checkpoints_of(config) == ["images_000000000064", "images_000000000096"]  # Two are kept.
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == checkpoints_of(config)
    pictures = {path.name: Image.open(path).size for path in (run / "pictures").iterdir()}
    num_rows = {"samples": 32 // 8, "reconstructions": 2 * -(-min(32, Dataset(config.data).num_samples("val")) // 8)}
    assert pictures == {
        f"{name}_images_{images_seen:012d}.png": (8 * 18 + 2, num_rows[name] * 18 + 2)
        for name in num_rows
        for images_seen in (64, 96)
    } | {"latent_usage_images_000000000096.png": (1100, 324)}
    metrics = metrics_of(config)
    trained, held_out = [[m["images_seen"] for m in metrics if key in m] for key in ("train/loss", "val/mse")]
    assert (trained, held_out) == ([32, 64, 96], [48, 96])
    assert_scalars_equal_events(config)
    histograms = EventAccumulator(config.run).Reload().Tags()["histograms"]
    assert {"train/kl_per_dim", "latents/mu", "latents/variance_of_mu"} <= set(histograms)
    description = read_description(find_snapshot(run))
    assert (description.images_seen, description.step, list(description.weights)) == (96, 6, ["ema", "raw"])
    assert description.dataset_fingerprint == Dataset(config.data).fingerprint
    assert "beta_eff" in capsys.readouterr().out


def test_the_first_pictures_and_metrics_come_early_and_change_nothing(tiny_config: MakeConfig, tmp_path: Path) -> None:
    late = tiny_config(max_steps=5, early_stop=EarlyStopConfig("mse", patience=1), **RICH)
    early = replace(
        late,
        run=str(tmp_path / "early"),
        monitor=MonitorConfig(log_every_images=32, grid_every_images=480, validate_every_images=320),
    )
    outcomes = [train(late), train(early)]
    assert_equal(*outcomes)
    assert [line["images_seen"] for line in metrics_of(early) if "val/mse" in line] == [32, 80]
    assert [path.name[-7:-4] for path in sorted(Path(early.run).glob("pictures/samples_*"))] == ["048", "080"]
    # Early stopping does not see the first one; it would have kept its snapshot.
    progress = read_facts(Path(early.run) / "checkpoints" / checkpoints_of(early)[-1]).early_stop
    assert progress and (progress.best_images_seen, progress.num_without_gain) == (80, 0)


def test_an_interval_of_a_few_steps_has_no_first_look(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=3, monitor=MonitorConfig(grid_every_images=160, validate_every_images=160))
    train(config)
    assert [line["images_seen"] for line in metrics_of(config) if "val/mse" in line] == [48]


def test_an_epoch_that_leaves_out_many_images_says_so(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(max_steps=1, dry_run=True)
    num = Dataset(config.data).num_samples("train")
    train(config)
    assert "lower --global_batch_size" not in capsys.readouterr().out
    train(replace(config, global_batch_size=128))
    warning = f"warning: an epoch trains on 128 of {num} images, in whole batches of 128; lower --global_batch_size"
    assert warning in capsys.readouterr().out


def test_kl_per_dim_is_written_and_sums_to_the_kl(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=2, monitor=MonitorConfig(log_every_images=16))
    train(config)
    vectors = [line["train/kl_per_dim"] for line in lines_of(config) if "train/kl_per_dim" in line]
    assert [len(vector) for vector in vectors] == [6, 6]
    counted = [line["train/dims_with_kl"] for line in metrics_of(config) if "train/dims_with_kl" in line]
    assert counted == [sum(value > 0.05 for value in vector) for vector in vectors]
    assert [sum(vector) for vector in vectors] == pytest.approx(
        [line["train/kl"] for line in metrics_of(config) if "train/kl" in line], rel=1e-5
    )


def test_logged_values_are_means_over_the_window(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=4, monitor=MonitorConfig(log_every_images=32))
    losses: list[float] = []
    train(config, lambda trainer, batch, terms: losses.append(terms["loss"].item()))
    logged = [line["train/loss"] for line in metrics_of(config) if "train/loss" in line]
    assert logged == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2], rel=1e-5)


def test_training_sees_every_image_of_an_epoch_once(tiny_config: MakeConfig) -> None:
    rows: list[Tensor] = []
    train(tiny_config(max_epochs=1, max_steps=None), lambda trainer, batch, terms: rows.append(batch.rows))
    seen = torch.cat(rows)
    assert len(seen.unique()) == len(seen) == Dataset(tiny_config().data).num_samples("train") // 16 * 16


@pytest.mark.parametrize(
    ("family", "labels"),
    [("vae", set()), ("cvae", {"smile"}), ("mod_vae", {"group_kind"}), ("face_cnn", {"identity", "same"})],
)
def test_a_batch_holds_the_labels_that_its_family_uses(tiny_config: MakeConfig, family: str, labels: set[str]) -> None:
    seen: list[set[str]] = []
    config = tiny_config(family, max_steps=1)
    train(config, lambda trainer, batch, terms: seen.append({*batch.labels}))
    assert seen == [labels]
    assert labels & {"smile", "identity"} < {*Dataset(config.data).fields}


def test_equal_seeds_give_equal_weights_and_others_do_not(tiny_config: MakeConfig, tmp_path: Path) -> None:
    first, second, other = (
        train(tiny_config(run=str(tmp_path / name), seed=seed, max_steps=2))
        for name, seed in zip("abc", (0, 0, 1), strict=True)
    )
    assert_equal(first, second)
    assert not torch.equal(
        first.tensors["weights.networks.autoencoder.encoder.head.weight"],
        other.tensors["weights.networks.autoencoder.encoder.head.weight"],
    )


def test_dropout_draws_anew_in_every_step(tiny_config: MakeConfig) -> None:
    seeds: list[int] = []
    model = {"network": ConvNetConfig(widths=[4, 8], dropout=0.1)}
    train(tiny_config(max_steps=3, model=model), lambda *_: seeds.append(torch.initial_seed()))
    assert len(set(seeds)) == 3


def test_training_lowers_the_loss(tiny_config: MakeConfig) -> None:
    losses: list[float] = []
    config = tiny_config(max_epochs=4, max_steps=None, optim=OptimConfig(lr=0.01, warmup_images=0))
    train(config, lambda trainer, batch, terms: losses.append(terms["mse"].item()))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize(
    ("fractions", "sentence"),
    [
        (["--val_fraction", "0", "--test_fraction", "0"], "no val or test split"),
        (["--val_fraction", "0", "--test_fraction", "0.2"], "no val split, so training watches the test split"),
    ],
)
def test_missing_held_out_splits_are_announced(
    fractions: list[str], sentence: str, tiny_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "data")
    pack(["synthetic", data, "--num", "64", "--size", "16", "--workers", "1", *fractions])
    train(tiny_config(data=data, max_steps=1))
    assert sentence in capsys.readouterr().out
