"""Sliders of latents whose principal components say nothing about pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eval.latent.pca import fit_pca
from eval.latent.picture_axes import picture_axes, picture_metric
from eval.latent.tools import traverse
from eval.reports.parts import sweeps

SIZE = 30
SCALES = 0.7 ** np.arange(SIZE)


def linear_decoder(directions: np.ndarray) -> SimpleNamespace:
    """A model in which row k of ``directions`` changes pixel k, each less than the one before."""
    to_pixels = torch.from_numpy(directions * SCALES[:, None]).float()
    return SimpleNamespace(
        condition=None, condition_range=None, decode=lambda latents, labels: (latents @ to_pixels.T)[:, None, None]
    )


@pytest.fixture
def turned() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).normal(size=(SIZE, SIZE)))[0]


def test_latents_of_one_variance_are_moved_by_what_changes_the_picture(turned: np.ndarray) -> None:
    latents = np.random.default_rng(0).normal(2, 1, (4000, SIZE))
    pca = fit_pca(latents)
    metric = picture_metric(linear_decoder(turned), pca, np.nan)
    np.testing.assert_allclose(metric, (turned.T * SCALES**2) @ turned / SIZE, atol=1e-5)
    found = picture_axes(metric, pca)
    assert found is not None
    axes, shares = found
    assert np.abs((axes.directions[:6] * turned[:6]).sum(axis=1)) == pytest.approx(np.ones(6), abs=1e-3)
    np.testing.assert_allclose(axes.directions @ axes.directions.T, np.eye(SIZE), atol=1e-6)
    np.testing.assert_allclose(axes.units, (latents @ axes.directions.T).std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(axes.centers @ axes.directions, latents.mean(axis=0), atol=1e-6)
    assert shares[:3] == pytest.approx(SCALES[:3] ** 2 / (SCALES**2).sum(), rel=0.1) and shares.sum() == pytest.approx(
        1
    )


def test_components_that_change_the_picture_stay(turned: np.ndarray) -> None:
    latents = np.random.default_rng(0).normal(size=(4000, SIZE)) * SCALES @ turned
    pca = fit_pca(latents)
    decoder = linear_decoder(turned / SCALES[:, None])
    assert picture_axes(picture_metric(decoder, pca, np.nan), pca) is None


def test_dims_without_variance_are_last(turned: np.ndarray) -> None:
    latents = np.random.default_rng(0).normal(size=(4000, SIZE))
    latents[:, 3] = 0.5
    pca = fit_pca(latents)
    found = picture_axes(picture_metric(linear_decoder(np.eye(SIZE)), pca, np.nan), pca)
    assert found is not None
    axes, shares = found
    assert abs(axes.directions[-1, 3]) == pytest.approx(1)
    assert [axes.units[-1], shares[-1]] == pytest.approx([0, 0], abs=1e-6)


def test_a_report_moves_a_face_along_what_changes_it(turned: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    swept = []
    monkeypatch.setattr(sweeps, "encode_split", lambda *_, limit: np.random.default_rng(0).normal(size=(limit, SIZE)))
    monkeypatch.setattr(sweeps, "sweep_faces", lambda model, faces, axes, steps: swept.append(axes))
    monkeypatch.setattr(sweeps, "sweep_grid", lambda images, axes, steps: None)
    protocol = SimpleNamespace(dataset=SimpleNamespace(splits=["train"]), num_train=4000)
    run: Any = SimpleNamespace(model=linear_decoder(turned), protocol=protocol, faces=lambda num: None)
    drawing: Any = sweeps.component_sweep(run)
    assert "along directions that change the picture most" in drawing.caption
    assert np.abs((swept[0].directions[:6] * turned[:6]).sum(axis=1)) == pytest.approx(np.ones(6), abs=1e-3)
    assert len(swept[0].names) == len(swept[0].units) == sweeps.NUM_AXES


def test_the_command_sweeps_them_and_says_so(
    turned: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pca = fit_pca(np.random.default_rng(0).normal(size=(4000, SIZE)))
    monkeypatch.setattr(traverse, "find_components", lambda config, model: pca)
    model: Any = linear_decoder(turned)
    model.name, model.latent_size = "run", SIZE
    config = traverse.TraverseConfig(run="run", out="out.png", pca=True, axes=[2, 1])
    axes, _ = traverse.find_axes(config, model)
    assert [name.split("  ")[0] for name in axes.names] == ["direction 2", "direction 1"]
    assert np.abs((axes.directions * turned[[1, 0]]).sum(axis=1)) == pytest.approx(np.ones(2), abs=1e-3)
    assert "note: the latents of run have about one variance" in capsys.readouterr().out
    config.pca_file = "components.safetensors"
    axes, _ = traverse.find_axes(config, model)
    assert axes.names[0].startswith("component 2")
