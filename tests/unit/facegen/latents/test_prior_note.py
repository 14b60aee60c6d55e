"""A prior that is unlikely to give faces says so, and names the sampler to fit."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from eval.reports.evaluate import _start_result
from eval.studio.studio import Studio
from facegen.latents.latent_history import LatentHistory, write_latent_history
from facegen.latents.prior_note import MAX_PRIOR_NATS, advised_fit
from facegen.model import Model, load
from facegen.samplers.gaussian import GaussianConfig, GaussianSampler
from shards.base.errors import Note, UserError
from tiny_runs import untrained_run

OLD_RUN = Path(__file__).parents[3] / "fixtures" / "release_0_1" / "run"


def run_with_nats(run: Path, data: Path, nats: float, family: str = "vae") -> Path:
    """A run whose latents hold so much of an image at its snapshot, and far more later."""
    untrained_run(run, data, family)
    (run / "config.yaml").touch()
    kl = np.full((2, 6), 1e6, np.float32)
    kl[0] = nats / 6
    write_latent_history(
        run,
        LatentHistory("val", np.array([1, 2]), np.array([640, 1280]), np.array([8, 8]), np.zeros((2, 6)), kl, kl),
    )
    return run


def test_draws_from_a_prior_that_gives_no_faces_are_a_note(tiny_dataset: Path, tmp_path: Path) -> None:
    run = run_with_nats(tmp_path / "run", tiny_dataset, MAX_PRIOR_NATS + 1)
    model = load(run)
    with pytest.warns(
        Note, match=f"prior of run is unlikely to give faces.* 1,001 nats.*{re.escape(advised_fit(run))}"
    ):
        model.sample(2)
    model.use_sampler("gaussian", GaussianSampler(GaussianConfig(), 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(2)


def test_other_priors_say_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    assert load(run_with_nats(tmp_path / "run", tiny_dataset, MAX_PRIOR_NATS - 1)).prior_note == ""
    assert load(untrained_run(tmp_path / "plain", tiny_dataset)).prior_note == ""


def test_a_report_shows_the_note(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.reports.evaluate._difference", lambda *_: "")
    model = load(run_with_nats(tmp_path / "run", tiny_dataset, 2_000))
    assert _start_result("run", model, "run", None).warnings == [model.prior_note]  # type: ignore[arg-type]


def test_the_studio_shows_the_note_unless_a_sampler_is_fitted(tiny_dataset: Path, tmp_path: Path) -> None:
    run = run_with_nats(tmp_path / "run", tiny_dataset, 2_000)
    assert Studio([str(run)]).notes == [load(run).prior_note]
    fitted = Path(shutil.copytree(OLD_RUN, tmp_path / "fitted"))
    (fitted / "latent_usage.safetensors").unlink()
    seen = load(fitted).images_seen
    told = LatentHistory("val", *np.ones((3, 1)) * [[1], [seen], [8]], *np.full((3, 1, 6), 1e3))
    write_latent_history(fitted, told)
    assert load(fitted).prior_note
    assert Studio([str(fitted)]).notes == []


def test_a_family_without_a_prior_names_the_sampler_to_fit_or_the_fitted_one(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "ae")
    (run / "config.yaml").touch()
    with pytest.raises(UserError, match=f"cannot sample.*with a fitted sampler.*{re.escape(advised_fit(run))}"):
        load(run).sample(2)
    monkeypatch.setattr(Model, "samplers", ["gaussian"])
    with pytest.raises(UserError, match=f"cannot sample.*with a fitted sampler: give {re.escape(str(run))}:gaussian."):
        load(run).sample(2)
