"""``--profile``: the content of its files, and when there are none."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from facegen.options import EMAConfig, TrainConfig
from facegen.training.profiling import TRACED_STEPS, WARMUP_STEPS
from facegen.training.trainer import Trainer

MakeConfig = Callable[..., TrainConfig]


def phases_of(config: TrainConfig) -> Counter[str]:
    """How often each named phase is in the trace."""
    (trace,) = (Path(config.run) / "profile").glob("*.pt.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return Counter(event["name"] for event in events if event.get("cat") == "user_annotation")


def test_a_few_steps_are_traced_with_their_phases(tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config("dcgan", profile=True, ema=EMAConfig(50), max_steps=WARMUP_STEPS + TRACED_STEPS + 3)
    assert Trainer(config).fit() == 0
    phases = phases_of(config)
    turns = [
        f"{turn}: {phase}" for turn in ("generator", "discriminator") for phase in ("forward", "backward", "update")
    ]
    for name in ("data", "augmentation", "moving average", *turns):
        assert phases[name] == TRACED_STEPS, name
    table = Path(config.run) / "profile" / "images_000000000000_rank_0.txt"
    assert "convolution" in table.read_text()
    assert "images_000000000000_rank_0.pt.trace.json.gz; open it in" in capsys.readouterr().out


def test_a_run_that_ends_early_keeps_its_trace(tiny_config: MakeConfig) -> None:
    config = tiny_config(profile=True, max_steps=WARMUP_STEPS + 2)
    assert Trainer(config).fit() == 0
    assert phases_of(config)["data"] == 2


@pytest.mark.parametrize("max_steps", [1, WARMUP_STEPS])
def test_a_run_that_ends_before_its_warmup_says_so(
    max_steps: int, tiny_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(profile=True, max_steps=max_steps)
    assert Trainer(config).fit() == 0
    assert f"no step was traced: training ended within the first {WARMUP_STEPS} steps" in capsys.readouterr().out
    assert not (Path(config.run) / "profile").exists()


def test_a_dry_run_has_too_few_steps_to_trace(tiny_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="profile needs more than the one step"):
        tiny_config(profile=True, dry_run=True)
