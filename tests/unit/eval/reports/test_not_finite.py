"""A model that has diverged costs its own numbers, not the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import eval
from eval.base.runs import file_name
from eval.features import optional_spaces
from eval.reports import prepare
from facegen.model import Model
from tiny_runs import untrained_run


def test_a_diverged_model_has_reasons_instead_of_numbers(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other weights, or the good one would find the bad one's latents in the cache.
    run, good = (untrained_run(tmp_path / name, tiny_dataset, seed=seed) for seed, name in enumerate(("bad", "good")))
    posterior = Model.posterior

    def diverged(model: Model, *args: Any) -> Any:
        factor = math.nan if model.name == "bad" else 1
        return tuple(factor * part for part in posterior(model, *args))

    monkeypatch.setattr(Model, "posterior", diverged)
    parts = ["reconstruction", "likelihood", "latent", "samples", "sweeps", "morphs", "pca", "distances"]
    report = eval.report([run, good], tiny_dataset, tmp_path / "out", only=parts, device="cpu")
    for key in ("mse", "kl", "elbo"):
        bad, fine = (column.measures[key] for column in report.runs)
        assert (bad.value, bad.reason) == (None, "the model's numbers are not finite") and fine.value is not None
    assert report.runs[0].latent.keys() < report.runs[1].latent.keys()
    json.loads((tmp_path / "out" / "report.json").read_text())


def test_names_of_files_never_collide() -> None:
    names = ("vae:gaussian", "vae_gaussian", "vae gaussian", "vae")
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("vae-2.b") == "vae-2.b"


def test_all_ranks_have_inceptions_weights_or_none(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional_spaces, "find_inception_weights", lambda choice: (Path("weights"), ""))
    monkeypatch.setattr(
        prepare, "gather_object", lambda own: [*own, ("process 1 on b", own[0][1] | {"inception": "not computed."})]
    )
    run = untrained_run(tmp_path / "run", tiny_dataset)
    report = eval.report(run, tiny_dataset, tmp_path / "out", only=["distances:samples"], device="cpu", baselines=[])
    assert report.runs[0].measures["frechet_inception_samples"].reason == "not computed (process 1 on b)"
