"""One way to name a run and its sampler: ``RUN:SAMPLER``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from eval import sample
from eval.base.runs import distinct_names
from facegen.model import load
from facegen.runs.run_name import parse_run
from shards.base.errors import UserError

OLD_RUN = Path(__file__).parents[3] / "fixtures" / "release_0_1" / "run"
"""Has the sampler ``gaussian``."""


def test_a_name_is_taken_apart(tmp_path: Path) -> None:
    assert parse_run(tmp_path) == (tmp_path, None)
    assert parse_run(f"{tmp_path}/run:gaussian") == (tmp_path / "run", "gaussian")
    assert parse_run(tmp_path / "run:gaussian") == (tmp_path / "run", "gaussian")
    assert parse_run(f"{tmp_path}/run") == (tmp_path / "run", None)
    assert parse_run(f"{tmp_path}/12:30/run") == (tmp_path / "12:30" / "run", None)
    assert parse_run("hub:someone/faces") == (Path("hub:someone/faces"), None)
    assert parse_run("hub:someone/faces@a/b:gaussian") == (Path("hub:someone/faces@a/b"), "gaussian")
    named = tmp_path / "run:gaussian"
    named.mkdir()
    assert parse_run(named) == (named, None)


@pytest.mark.parametrize("name", ["hf:someone/faces", "s3://bucket/run:gaussian"])
def test_a_scheme_is_not_a_run_with_a_sampler(name: str) -> None:
    with pytest.raises(UserError, match="is an address, and runs are read from folders and the Hub"):
        load(name)


def test_every_way_to_name_a_sampler_is_the_same() -> None:
    named, asked = load(f"{OLD_RUN}:gaussian"), load(OLD_RUN, sampler="gaussian")
    assert named.sampler == asked.sampler == "gaussian"
    assert torch.equal(named.sample(2), asked.sample(2))
    assert not torch.equal(named.sample(2), load(OLD_RUN).sample(2))
    assert distinct_names([load(OLD_RUN), named]) == ["run", "run:gaussian"]
    with pytest.raises(UserError, match="name two samplers"):
        load(f"{OLD_RUN}:gaussian", sampler="gaussian_mixture")


def test_a_latent_tool_takes_a_fitted_sampler(tmp_path: Path) -> None:
    pictures = [tmp_path / "prior.png", tmp_path / "fitted.png"]
    for run, out in zip((str(OLD_RUN), f"{OLD_RUN}:gaussian"), pictures, strict=True):
        sample.main([run, "--num", "4", "--out", str(out)])
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_the_samplers_of_a_run_are_those_of_its_weights(tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run"))
    model = load(run)
    assert model.samplers == ["gaussian"]
    shutil.copytree(run / "samplers" / "gaussian", run / "samplers" / "damaged")
    (run / "samplers" / "damaged" / "sampler.safetensors").write_bytes(b"cut")
    (run / "samplers" / "empty").mkdir()
    assert model.samplers == ["gaussian"]
    assert load(run, weights="raw").samplers == []
    assert model.sampler is None and model.with_sampler("gaussian").sampler == "gaussian"
