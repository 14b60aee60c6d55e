"""What trials ask of training: no signals off the main thread, a callback at checkpoints, another run's state."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from facegen.config import TrainConfig
from facegen.processes.preemption import StopFlag
from facegen.runs.branch import branch
from facegen.runs.checkpoint import newest_complete
from facegen.training.trainer import Trainer
from shards.base.errors import UserError


def test_training_off_the_main_thread_is_never_asked_to_stop() -> None:
    batches: list[int] = []

    def watch() -> None:
        with StopFlag() as stop:
            batches.extend(stop.watch([1, 2], num_votes=2))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert batches == [1, 2]


def test_a_callback_sees_every_checkpoint_with_the_metrics_of_its_moment(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    config = tiny_config()
    config.monitor.validate_every_images = config.checkpoint.every_images = 32
    seen = []
    trainer = Trainer(config)
    trainer.fit(on_saved=lambda trainer, values: seen.append((trainer.images_seen, set(values))))
    assert seen == [(32, {"mse", "kl"}), (64, {"mse", "kl"})]
    metrics = [json.loads(line) for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in metrics if "val/mse" in line] == [32, 64]
    again = tiny_config(max_steps=6)
    Trainer(again).fit(on_saved=lambda trainer, values: seen.append((trainer.images_seen, set(values))))
    assert seen[2:] == [(96, {"mse", "kl"})]


def test_a_run_continues_from_another_ones_state_with_other_options(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    donor = tiny_config(run=str(tmp_path / "donor"), seed=1)
    Trainer(donor).fit()
    own = tiny_config(run=str(tmp_path / "own"), max_steps=8)
    Trainer(own).fit()
    source = newest_complete(tmp_path / "donor" / "checkpoints")
    assert source is not None
    changed = tiny_config(run=str(tmp_path / "own"), max_steps=8, model={"kld_weight": 0.5})
    changed.optim.lr = 5e-4
    with pytest.raises(UserError, match="started with other options"):
        Trainer(changed)
    branch(source, changed)
    trainer = Trainer(changed)
    assert trainer.images_seen == 64
    weights = load_file(source / "weights.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in trainer.family.state_dict().items())
    assert trainer.fit() == 0
    assert sorted(path.name for path in (tmp_path / "own" / "snapshots").iterdir())[-1] == "images_000000000128"
    saved = yaml.safe_load((tmp_path / "own" / "config.yaml").read_text())
    assert (saved["model"]["kld_weight"], saved["optim"]["lr"]) == (0.5, 5e-4)
    seen = [json.loads(line)["images_seen"] for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()]
    assert seen == sorted(seen)
    assert (source / "COMPLETE").is_file()  # The other run is unchanged.
