"""Samplers: they reproduce what they were fitted to, deterministically, and only for the weights they belong to."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from eval.base.runs import open_runs
from facegen import fit_sampler
from facegen.config import PRESETS
from facegen.fit_sampler import check_fit, command_class, fit
from facegen.model import load
from facegen.options import TrainConfig
from facegen.pixels import to_float
from facegen.runs.checkpoint import write_complete
from facegen.runs.snapshot import find_snapshot
from facegen.samplers import SAMPLERS
from facegen.samplers.base import Latents, Sampler
from facegen.samplers.blend import BlendConfig, nearest_others
from facegen.samplers.gaussian import GaussianConfig
from facegen.samplers.gaussian_mixture import GaussianMixtureConfig
from facegen.samplers.second_stage import SecondStageConfig
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

QUICK: dict[str, Any] = {
    "gaussian": GaussianConfig(),
    "gaussian_mixture": GaussianMixtureConfig(num_components=3),
    "blend": BlendConfig(),
    "second_stage": SecondStageConfig(width=16, num_layers=1, num_steps=20, batch_size=32),
}

every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw(sampler: Sampler, num: int, seed: int = 7, std: float = 1.0) -> Tensor:
    with torch.no_grad():
        return sampler(normal(num, sampler.noise_size, seed=seed), std)


def two_clouds(num: int = 6000) -> Tensor:
    """A mixture of 30 % around (-3, 0, 1) and 70 % around (2, 1, 0), each with its own covariance."""
    noise = normal(num, 3)
    is_first = torch.arange(num) < 0.3 * num
    first = torch.tensor([-3.0, 0.0, 1.0]) + noise @ torch.tensor([[0.5, 0.4, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.2]])
    second = torch.tensor([2.0, 1.0, 0.0]) + noise @ torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.8, -0.5], [0.0, 0.0, 0.6]])
    return torch.where(is_first[:, None], first, second)


def coded(mu: Tensor, logvar: Tensor | None = None) -> Latents:
    """Latents of images that look as their latents are, of unknown people."""
    return Latents(mu, logvar, mu, None)


def energy_distance(first: Tensor, second: Tensor) -> float:
    """Szekely and Rizzo 2013; 0 for equal distributions."""
    between = torch.cdist(first, second).mean()
    return (2 * between - torch.cdist(first, first).mean() - torch.cdist(second, second).mean()).item()


def test_the_gaussian_reproduces_mean_and_covariance() -> None:
    mu = two_clouds()
    drawn = draw(fit("gaussian", GaussianConfig(), coded(mu), 0), 50_000)
    torch.testing.assert_close(drawn.mean(0), mu.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), mu.T.cov(), atol=0.1, rtol=0)


def test_a_gaussian_of_a_rank_varies_the_leading_components_only() -> None:
    mu = two_clouds() @ torch.tensor([[3.0, 0, 0], [0, 1, 0], [0, 0, 0.1]])
    sampler = fit("gaussian", GaussianConfig(rank=2), coded(mu), 0)
    assert sampler.noise_size == 2
    values, vectors = torch.linalg.eigh(mu.T.cov())
    covariance = draw(sampler, 50_000).T.cov()
    torch.testing.assert_close(covariance, mu.T.cov() - values[0] * vectors[:, :1] @ vectors[:, :1].T, atol=0.5, rtol=0)
    assert (vectors[:, 0] @ covariance @ vectors[:, 0]).item() < 1e-6


def test_a_gaussian_shrinks_where_latents_are_few() -> None:
    mu = normal(20, 50)
    sampler: Any = fit("gaussian", GaussianConfig(shrinkage=True), coded(mu), 0)
    spread = torch.linalg.eigvalsh(sampler.scale_tril @ sampler.scale_tril.T)
    assert 0.8 < spread.mean() < 1.2 and spread.min() > 0.5  # The truth is 1; unshrunk, 31 of them would be 0.
    with pytest.raises(UserError, match="too few for a rank of 20"):
        fit("gaussian", GaussianConfig(rank=20), coded(mu), 0)


@pytest.mark.parametrize("num_faces", [2, 5])
def test_blends_have_mean_and_spread_of_the_latents(num_faces: int) -> None:
    mu = two_clouds(2000)
    sampler = fit("blend", BlendConfig(num_faces=num_faces), coded(mu), 0)
    drawn = draw(sampler, 50_000)
    torch.testing.assert_close(drawn.mean(0), mu.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.std(0), mu.std(0), atol=0.03, rtol=0)
    torch.testing.assert_close(draw(sampler, 100, std=0.5) - mu.mean(0), (draw(sampler, 100) - mu.mean(0)) / 2)


def test_a_blend_is_of_faces_that_look_alike_and_of_different_people() -> None:
    looks = torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])[:, None]
    latents = Latents(torch.eye(6), None, looks, torch.tensor([0, 0, 1, -1, -1, 1]))
    sampler: Any = fit("blend", BlendConfig(num_faces=2, num_neighbors=1), latents, 0)
    drawn = (draw(sampler, 500) - sampler.mean) / sampler.scale + sampler.mean
    pairs = {tuple((row > 0.4).nonzero().flatten().tolist()) for row in drawn}
    assert pairs == {(0, 2), (1, 2), (3, 4), (4, 5)}  # 2's nearest is 1, 4's nearest is 3 or 5.


def test_unknown_people_differ_and_one_person_is_no_blend() -> None:
    looks = torch.arange(4.0)[:, None]
    assert nearest_others(looks, None, 9).shape == (4, 3)
    assert nearest_others(looks, torch.tensor([-1, -1, -1, -1]), 9).shape == (4, 3)
    assert nearest_others(looks, torch.tensor([0, 0, 1, -1]), 9).tolist() == [[2, 3], [2, 3], [1, 3], [2, 1]]
    with pytest.raises(UserError, match="two people"):
        nearest_others(looks, torch.zeros(4, dtype=torch.int64), 9)


def test_a_blend_keeps_a_random_choice_of_many_faces() -> None:
    mu = torch.arange(100.0)[:, None]
    kept: Any = [fit("blend", BlendConfig(max_kept=10), coded(mu), seed) for seed in (0, 0, 1)]
    assert [len(sampler.faces.unique()) for sampler in kept] == [10, 10, 10]
    assert torch.equal(kept[0].faces, kept[1].faces)
    assert not torch.equal(kept[0].faces, kept[2].faces)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_mixture_finds_its_components(scale: float) -> None:
    mu = two_clouds()
    sampler: Any = fit("gaussian_mixture", GaussianMixtureConfig(num_components=2), coded(scale * mu), 0)
    order = sampler.weights.argsort()
    torch.testing.assert_close(sampler.weights[order], torch.tensor([0.3, 0.7]), atol=0.01, rtol=0)
    clouds = (mu[:1800], mu[1800:])
    for component, cloud in zip(order, clouds, strict=True):
        torch.testing.assert_close(sampler.means[component], scale * cloud.mean(0), atol=0.05 * scale, rtol=0)
        covariance = sampler.scales[component] @ sampler.scales[component].T
        torch.testing.assert_close(covariance, scale**2 * cloud.T.cov(), atol=0.05 * scale**2, rtol=0)
    drawn = draw(sampler, 20_000) / scale
    assert (drawn[:, 0] < -0.5).double().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(drawn.mean(0), mu.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), mu.T.cov(), atol=0.1, rtol=0)


def test_a_diagonal_mixture_has_no_correlations() -> None:
    config = GaussianMixtureConfig(num_components=2, covariance_type="diag")
    sampler: Any = fit("gaussian_mixture", config, coded(two_clouds()), 0)
    assert sampler.scales.shape == (2, 3)
    assert draw(sampler, 5000).var(0).tolist() == pytest.approx(two_clouds().var(0).tolist(), rel=0.1)
    of_first = draw(sampler, 5000)
    of_first = of_first[of_first[:, 0] < -0.5]
    assert abs(of_first.T.corrcoef()[0, 1].item()) < 0.1 < abs(two_clouds()[:1800].T.corrcoef()[0, 1].item())


def test_the_second_stage_learns_a_bent_distribution() -> None:
    def bent(seed: int) -> Tensor:
        along, across = normal(3000, 2, seed=seed).unbind(1)
        return torch.stack([along, 0.7 * along.square() + 0.1 * across], dim=1)

    config = SecondStageConfig(width=64, num_layers=2, num_steps=600, batch_size=128, lr=3e-3)
    sampler = fit("second_stage", config, coded(bent(0)), 0)
    gaussian = fit("gaussian", GaussianConfig(), coded(bent(0)), 0)
    held_out = bent(1)
    distances = [energy_distance(samples, held_out) for samples in (draw(sampler, 3000), draw(gaussian, 3000))]
    assert distances[0] < 0.25 * distances[1] < 0.25 * energy_distance(normal(3000, 2, seed=5), held_out)


def test_the_second_stage_draws_from_the_posterior_and_not_only_from_its_means() -> None:
    # A dim at the prior has mu = 0 and variance 1, so the first decoder was trained on N(0, 1) there.
    latents = coded(torch.zeros(500, 2), torch.zeros(500, 2))
    config = SecondStageConfig(width=16, num_layers=1, num_steps=200)
    assert draw(fit("second_stage", config, latents, 0), 4000).std(0).tolist() == pytest.approx([1, 1], abs=0.15)


@every_sampler
def test_constant_dims_stay_constant(name: str) -> None:
    mu = torch.cat([two_clouds(300), torch.full((300, 1), 5.0)], dim=1)
    drawn = draw(fit(name, QUICK[name], coded(mu), 0), 50)
    assert drawn.isfinite().all()
    if name != "second_stage":  # Its own noise has a variance.
        torch.testing.assert_close(drawn[:, 3], torch.full((50,), 5.0), atol=0.02, rtol=0)


@every_sampler
def test_latents_of_a_collapsed_encoder_can_be_fitted(name: str) -> None:
    drawn = draw(fit(name, QUICK[name], coded(torch.full((60, 3), 0.5)), 0), 50)
    assert drawn.isfinite().all()
    if name == "gaussian":
        torch.testing.assert_close(drawn, torch.full((50, 3), 0.5), atol=1e-5, rtol=0)


@every_sampler
def test_the_same_seed_fits_the_same_sampler(name: str) -> None:
    latents = coded(two_clouds(300), torch.full((300, 3), -2.0))
    first, again = (fit(name, QUICK[name], latents, 4).state_dict() for _ in range(2))
    for key, tensor in first.items():
        assert torch.equal(tensor, again[key]), key


@every_sampler
def test_a_sample_is_a_function_of_its_own_noise(name: str) -> None:
    sampler = fit(name, QUICK[name], coded(two_clouds(300)), 0)
    noise = normal(12, sampler.noise_size)
    with torch.no_grad():
        together = sampler(noise)
        alone = torch.cat([sampler(row[None]) for row in noise])
        spread = sampler(noise, 0.5)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
    assert together.shape == (12, 3)
    assert not torch.allclose(spread, together)


@pytest.fixture(params=["ae", "vae"])
def run(request: pytest.FixtureRequest, tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> Path:
    Trainer(tiny_config(request.param)).fit()
    return tmp_path / "run"


def test_the_command_tells_samplers_how_the_images_look_and_whom_they_show(run: Path, tiny_dataset: Path) -> None:
    dataset = Dataset(str(tiny_dataset))
    latents = fit_sampler.encode(load(run), dataset, 50, 16)
    batch = next(evaluation_batches(dataset, "train", 50))
    assert dataset.manifest.identity_field and latents.persons is not None
    assert torch.equal(latents.persons, batch.labels[dataset.manifest.identity_field])
    side = fit_sampler.THUMBNAIL_SIDE
    assert latents.thumbnails.shape == (50, batch.images.shape[3] * side**2)
    means = to_float(batch.images).mean((1, 2, 3))
    torch.testing.assert_close(latents.thumbnails.mean(1), means, atol=1e-5, rtol=0)


def fit_in(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch, name: str = "gaussian", *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fit_sampler", name, str(run), "--data", str(data), "--device", "cpu", *options])
    fit_sampler.main()


def test_a_fitted_sampler_is_loaded_with_its_run(
    run: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("--config", "second_stage", "--width", "8", "--num_steps", "3", "--num_images", "60", "--name", "small")
    fit_in(run, tiny_dataset, monkeypatch, "second_stage", *small)
    fit_in(run, tiny_dataset, monkeypatch)
    plain = load(run)
    for name in ("small", "gaussian"):
        model = load(run, sampler=name)
        assert model.sampler == name
        assert model.can == plain.can | {"sample"}
        many = model.sample(6, seed=3)
        assert many.shape == (6, 3, 16, 16)
        torch.testing.assert_close(model.sample(2, seed=3, first=3), many[3:5], rtol=0, atol=1e-5)
        assert not torch.allclose(model.sample(6, seed=4), many)
        if "sample" in plain.can:
            assert not torch.allclose(plain.sample(6, seed=3), many)


def test_the_gaussian_of_a_run_is_fitted_to_mu_of_its_training_split(
    run: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_in(run, tiny_dataset, monkeypatch, "gaussian", "--batch_size", "50")
    model = load(run, sampler="gaussian")
    mu = fit_sampler.encode(model, Dataset(tiny_dataset), None, 64).mu
    assert len(mu) == Dataset(tiny_dataset).num_samples("train")
    torch.testing.assert_close(model._sampler.mean, mu.mean(0), atol=1e-5, rtol=1e-4)  # type: ignore[union-attr]


def test_a_sampler_of_other_weights_is_refused(
    tiny_config: Callable[..., TrainConfig], tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    Trainer(tiny_config("vae", max_steps=2)).fit()
    fit_in(run, tiny_dataset, monkeypatch)
    fitted_to = find_snapshot(run)
    Trainer(tiny_config("vae", max_steps=4)).fit()
    with pytest.raises(
        UserError, match="was fitted to raw weights at 32 images, not to the raw weights of .*fit it again"
    ):
        load(run, sampler="gaussian")
    assert load(fitted_to, sampler="gaussian").sampler == "gaussian"
    assert load(run).sampler is None


def test_samplers_that_are_missing_moved_or_damaged(
    run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(UserError, match="has no sampler gauss .it has: none.*of gaussian"):
        load(run, sampler="gauss")
    moved = tmp_path / "moved"
    shutil.copytree(find_snapshot(run), moved)
    with pytest.raises(UserError, match="samplers are stored in runs"):
        load(moved, sampler="gaussian")
    with pytest.raises(UserError, match="num_images must be at least 1"):
        fit_in(run, tiny_dataset, monkeypatch, "gaussian", "--num_images", "0")
    fit_in(run, tiny_dataset, monkeypatch)
    (run / "samplers" / "gaussian" / "sampler.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="sampler.safetensors is damaged; fit the sampler again"):
        load(run, sampler="gaussian")


@pytest.mark.parametrize("run", ["vae"], indirect=True)
def test_samplers_of_older_and_newer_versions(run: Path, tiny_dataset: Path, monkeypatch: Any) -> None:
    fit_in(run, tiny_dataset, monkeypatch)
    directory = run / "samplers" / "gaussian"
    content = json.loads((directory / "sampler.json").read_text())
    latents = load(run, sampler="gaussian").sample_latents(3)

    def rewrite(changed: dict[str, Any]) -> None:
        tensors = (directory / "sampler.safetensors").read_bytes()

        def write(new: Path) -> None:
            (new / "sampler.json").write_text(json.dumps(changed))
            (new / "sampler.safetensors").write_bytes(tensors)

        write_complete(directory, write)

    assert content.pop("format_version") == 1
    rewrite(content)  # Version 0.1.0 wrote no version.
    torch.testing.assert_close(load(run, sampler="gaussian").sample_latents(3), latents, rtol=0, atol=0)
    rewrite(content | {"format_version": 2})
    with pytest.raises(UserError, match="has format version 2 of a fitted sampler.*install a newer facegen"):
        load(run, sampler="gaussian")
    rewrite({"format_version": 1, "sampler": "gaussian"})
    with pytest.raises(UserError, match="sampler.json: config is missing; fit the sampler again"):
        load(run, sampler="gaussian")


@pytest.mark.parametrize("name", ["../checkpoints", "../snapshots", ".", ""])
def test_a_name_that_leads_elsewhere_deletes_nothing(
    run: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="is not a sampler's name"):
        fit_in(run, tiny_dataset, monkeypatch, "gaussian", "--name", name)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_models_and_latents_that_cannot_be_fitted(tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="needs an encoder and a decoder; gan can decode, sample"):
        check_fit(SimpleNamespace(can={"decode", "sample"}, family="gan"), Dataset(tiny_dataset))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not finite"):
        fit("gaussian", GaussianConfig(), coded(torch.full((4, 2), torch.nan)), 0)
    with pytest.raises(UserError, match="4 latents are too few"):
        fit("gaussian_mixture", GaussianMixtureConfig(num_components=5), coded(normal(4, 2)), 0)
    with pytest.raises(UserError, match="8 latents are too few to fit a full covariance of 8 dims"):
        fit("gaussian", QUICK["gaussian"], coded(normal(8, 8)), 0)
    with pytest.raises(UserError, match="16 latents are too few to fit 2 full covariances of 8 dims; give fewer"):
        fit("gaussian_mixture", GaussianMixtureConfig(num_components=2), coded(normal(16, 8)), 0)
    fit("gaussian_mixture", GaussianMixtureConfig(num_components=2), coded(normal(17, 8)), 0)


def test_too_few_latents_are_refused_before_they_are_encoded(
    tiny_config: Callable[..., TrainConfig], tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Trainer(tiny_config("ae")).fit()
    monkeypatch.setattr(fit_sampler, "encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(UserError, match="latents are too few to fit 100 full covariances.*--covariance_type diag"):
        fit_in(tmp_path / "run", tiny_dataset, monkeypatch, "gaussian_mixture", "--num_components", "100")


def test_a_report_names_the_sampler(run: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_in(run, tiny_dataset, monkeypatch)
    models = open_runs([str(run), f"{run}:gaussian"], Dataset(tiny_dataset), torch.device("cpu"))
    assert [(label, model.sampler) for label, model in models] == [("run", None), ("run:gaussian", "gaussian")]


@pytest.mark.parametrize("preset", sorted(path.stem for path in (PRESETS / "samplers").glob("*.yaml")))
def test_presets_of_samplers(preset: str) -> None:
    text = (PRESETS / "samplers" / f"{preset}.yaml").read_text()
    assert text.startswith("# ")
    fitting = [name for name in SAMPLERS if preset.startswith(name)]
    config = command_class(max(fitting, key=len))(run="r", data="d", **yaml.safe_load(text))
    assert {name: getattr(config, name) for name in yaml.safe_load(text)} == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("config_class", "options"),
    [
        (GaussianMixtureConfig, {"num_components": 0}),
        (GaussianMixtureConfig, {"max_iterations": 0}),
        (SecondStageConfig, {"width": 0}),
        (SecondStageConfig, {"lr": 0.0}),
    ],
)
def test_impossible_options(config_class: type, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        config_class(**options)
