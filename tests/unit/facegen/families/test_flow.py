"""The flow: from noise to an autoencoder's latents and back, alone and with a degree."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import facegen
from facegen.families import Family, build
from facegen.families.base import TrainBatch, TurnLosses
from facegen.families.flow import Flow
from facegen.latents.training_latents import TrainingLatents
from facegen.networks.flow.ode import integrate
from facegen.networks.flow.velocity import LatentShape, VelocityConfig, VelocityNetwork
from facegen.options import AugmentConfig, EMAConfig, MonitorConfig, TrainConfig
from facegen.pixels import to_float
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.base.places import CACHE_VARIABLE
from shards.dataset.dataset import Dataset
from shards.loading.loader import TrainLoader
from tiny_families import IMAGE, tiny_family
from training_runs import Crash, assert_equal, crash_after, metrics_of, train

Config = Callable[..., TrainConfig]
UNCONDITIONAL: dict[str, Any] = {"label": None}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def trained(tiny_config: Config, tmp_path: Path) -> Path:
    """The run of a VAE."""
    run = tmp_path / "vae"
    Trainer(tiny_config("vae", run=str(run), ema=EMAConfig(0))).fit()
    return run


def flow(label: str | None = None, **options: Any) -> Flow:
    family = tiny_family("flow", label=label, **options)
    assert isinstance(family, Flow)
    return family.eval()


def wake(family: Family) -> None:
    """Gives the layers that start at 0 weights, so that the flow is not only the one between two Gaussians."""
    generator = torch.Generator().manual_seed(0)
    for parameter in family.networks.parameters():
        if not parameter.any():
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_a_solver_has_its_order(solver: Any, order: int) -> None:
    start = torch.ones(1, 1, dtype=torch.float64)
    ends = [integrate(lambda x, t: x * t[:, None], start, steps, solver).item() for steps in (20, 40)]
    errors = [abs(end - math.exp(0.5)) for end in ends]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_backwards_returns_to_the_start() -> None:
    start = torch.randn(5, 3, dtype=torch.float64)
    end = integrate(lambda x, t: x.sin() + t[:, None], start, 50, "heun")
    assert not torch.allclose(end, start, atol=0.1)
    back = integrate(lambda x, t: x.sin() + t[:, None], end, 50, "heun", backwards=True)
    torch.testing.assert_close(back, start, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [LatentShape(6, 1, 1), LatentShape(2, 3, 2)])
def test_an_untrained_network_is_the_flow_between_two_gaussians(shape: LatentShape) -> None:
    network = VelocityNetwork(shape, VelocityConfig(width=64, num_blocks=2), conditional=False).eval()
    noise = torch.randn(8, shape.channels * shape.num_places)
    with torch.no_grad():
        torch.testing.assert_close(integrate(network, noise, 50, "heun"), noise, atol=1e-3, rtol=1e-3)


def test_places_of_a_map_see_each_other_and_know_where_they_are() -> None:
    torch.manual_seed(0)
    network = VelocityNetwork(LatentShape(2, 2, 2), VelocityConfig(width=64, num_blocks=1, dropout=0), False)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter)
    latents, times = torch.randn(1, 8), torch.tensor([0.5])
    changed = latents.clone()
    changed[0, 0] += 1  # The first channel of the first place.
    difference = (network(changed, times) - network(latents, times)).view(2, 4)
    assert (difference.abs() > 1e-4).any(0).all()
    same = network(torch.ones(1, 8), times).view(2, 4)
    assert not torch.allclose(same[:, 0], same[:, 1])


def test_a_width_that_heads_cannot_share() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        VelocityNetwork(LatentShape(2, 2, 2), VelocityConfig(width=100), conditional=False)


def test_it_learns_what_is_not_gaussian() -> None:
    # Two clusters, at -1 and 1 in each dim: their Gaussian has its mode where no latents are.
    torch.manual_seed(0)
    network = VelocityNetwork(LatentShape(2, 1, 1), VelocityConfig(width=32, num_blocks=2, dropout=0), False)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(400):
        data = (torch.randint(0, 2, (128, 1)) * 2.0 - 1).expand(-1, 2)
        noise, times = torch.randn(128, 2), torch.rand(128)
        points = times[:, None] * data + (1 - times[:, None]) * noise
        (network(points, times) - (data - noise)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        samples = integrate(network, torch.randn(500, 2), 25, "heun")
    assert (samples.abs() - 1).abs().mean() < 0.25
    assert (samples.sign().prod(1) > 0).float().mean() > 0.95
    assert 0.3 < (samples[:, 0] > 0).float().mean() < 0.7


def test_without_a_label_latents_are_the_autoencoders_and_samples_are_carried() -> None:
    family = flow()
    wake(family)
    images = torch.rand(3, *IMAGE) * 2 - 1
    torch.testing.assert_close(family.posterior(images, {}), family.autoencoder.posterior(images, {}))
    latents, noise = torch.randn(2, 3, family.latent_size or 0)
    torch.testing.assert_close(family.decode(latents, {}), family.autoencoder.decode(latents, {}))
    assert not torch.allclose(family.latents_of_noise(noise), noise, atol=0.1)


def test_with_a_label_a_face_returns_under_its_own_degree_and_changes_under_another() -> None:
    family = flow("smile", num_steps=100)
    wake(family)
    images, degrees = torch.rand(3, *IMAGE) * 2 - 1, torch.tensor([-1.0, 0.5, torch.nan])
    with torch.no_grad():
        noise, logvar = family.posterior(images, {"smile": degrees})
        same = family.decode(noise, {"smile": degrees})
        other = family.decode(noise, {"smile": -degrees})
        expected = family.autoencoder.decode(family.autoencoder.posterior(images, {})[0], {})
    assert logvar is None
    assert "posterior" not in family.can
    torch.testing.assert_close(same, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(other[:2], expected[:2], atol=1e-2)
    torch.testing.assert_close(family.latents_of_noise(noise), noise)


def test_guidance_exaggerates_the_degree() -> None:
    latents = []
    for guidance in (0.0, 1.0, 2.0):
        family = flow("smile", guidance=guidance, num_steps=1, solver="euler")
        wake(family)
        latents.append(family._forward(torch.ones(1, family.latent_size or 0), torch.tensor([1.0])))
    torch.testing.assert_close(latents[2] - latents[1], latents[1] - latents[0], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(latents[0], latents[1], atol=1e-3)


@pytest.mark.parametrize("logvar", [None, torch.full((50, 2, 3), -1.0)])
def test_moments_are_those_of_the_draws(logvar: Tensor | None) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = TrainingLatents(2 + 3 * torch.randn(50, 2, 3, generator=generator), logvar)
    rows = torch.arange(50).repeat(2000)
    mirrored = torch.rand(len(rows), generator=generator) < 0.5
    draws = latents.draw(rows, mirrored, torch.randn(len(rows), 3, generator=generator))
    mean, scale = latents.moments()
    torch.testing.assert_close(draws.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(draws.std(0), scale, atol=0.05, rtol=0)


def test_training_draws_the_latents_of_the_images_as_the_loader_orders_them(
    tiny_config: Config, trained: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("flow", model={"autoencoder": str(trained)}, augment=AugmentConfig(flip=True))
    trainer = Trainer(config)
    seen: list[TrainBatch] = []
    losses = trainer.family.losses

    def watched(turn: str, networks: Any, batch: TrainBatch) -> TurnLosses:
        seen.append(batch)
        return losses(turn, networks, batch)

    monkeypatch.setattr(trainer.family, "losses", watched)
    trainer.fit()
    dataset = Dataset(tiny_dataset)
    with_images = iter(TrainLoader(dataset, "train", global_batch_size=16, seed=config.seed, num_threads=0))
    model = facegen.load(trained)
    for number, batch in enumerate(seen):
        assert batch.images.numel() == 0
        assert batch.rows is not None and batch.mirrored is not None
        expected = next(with_images)
        assert torch.equal(batch.rows, expected.rows)
        pixels = to_float(expected.images)
        pixels[batch.mirrored] = pixels[batch.mirrored].flip(3)
        noise = SlotRandom(config.seed, 16 * number, slice(0, 16), 16).normal("posterior", model.latent_size or 0)
        mu, logvar = model.posterior(pixels)
        assert logvar is not None
        drawn = trainer.family._drawn(batch, noise)  # type: ignore[operator]
        torch.testing.assert_close(drawn, mu + (logvar / 2).exp() * noise, atol=1e-5, rtol=1e-4)
    assert 0 < sum(int(batch.mirrored.sum()) for batch in seen if batch.mirrored is not None) < 16 * len(seen)


def test_a_trained_flow_stands_alone(tiny_config: Config, trained: Path, tmp_path: Path) -> None:
    vae = facegen.load(trained)
    Trainer(tiny_config("flow", model={"autoencoder": str(trained), **UNCONDITIONAL})).fit()
    images = torch.rand(3, *IMAGE) * 2 - 1
    expected = vae.reconstruct(images)
    shutil.rmtree(trained)
    model = facegen.load(tmp_path / "run")
    assert model.can == {"encode", "posterior", "decode", "sample"}
    assert model.family == "flow"
    torch.testing.assert_close(model.reconstruct(images), expected)
    samples = model.sample(4, seed=1)
    torch.testing.assert_close(model.sample(2, seed=1, first=2), samples[2:], atol=1e-4, rtol=1e-4)


def test_a_killed_flow_resumes_to_the_same_end(tiny_config: Config, trained: Path, tmp_path: Path) -> None:
    def options(name: str) -> TrainConfig:
        return tiny_config("flow", model={"autoencoder": str(trained)}, run=str(tmp_path / name), max_steps=8)

    whole = train(options("whole"))
    with pytest.raises(Crash):
        train(options("parts"), crash_after(5))
    assert_equal(train(options("parts")), whole)


def test_latents_are_encoded_once(tiny_config: Config, trained: Path, cache: Path) -> None:
    options = {"autoencoder": str(trained)}
    Trainer(tiny_config("flow", model=options))
    (file,) = (cache / "training_latents").iterdir()
    written = file.stat().st_mtime_ns
    Trainer(tiny_config("flow", model=options, seed=1, run=str(trained.parent / "second")))
    assert [path.stat().st_mtime_ns for path in (cache / "training_latents").iterdir()] == [written]
    file.write_bytes(b"half a file")
    Trainer(tiny_config("flow", model=options, run=str(trained.parent / "third")))
    assert file.stat().st_size > 1000


def test_another_autoencoder_is_refused_and_a_moved_one_taken(
    tiny_config: Config, trained: Path, tmp_path: Path
) -> None:
    Trainer(tiny_config("flow", model={"autoencoder": str(trained)})).fit()
    moved = trained.rename(tmp_path / "moved")
    Trainer(tiny_config("flow", model={"autoencoder": str(moved)}, max_steps=5)).fit()
    other = tmp_path / "other"
    Trainer(tiny_config("vae", run=str(other), seed=1, ema=EMAConfig(0))).fit()
    with pytest.raises(UserError, match="autoencoder_config"):
        Trainer(tiny_config("flow", model={"autoencoder": str(other)}, max_steps=6))


def test_held_out_error_is_logged(tiny_config: Config, trained: Path) -> None:
    monitor = MonitorConfig(validate_every_images=32, num_validation_images=20, log_every_images=32)
    config = tiny_config("flow", model={"autoencoder": str(trained)}, monitor=monitor)
    Trainer(config).fit()
    assert [line["images_seen"] for line in metrics_of(config) if "val/flow" in line] == [32, 64]


def test_held_out_error_of_a_face_is_the_same_in_any_batch() -> None:
    family = flow()
    wake(family)
    images = torch.rand(5, *IMAGE) * 2 - 1
    errors = family.measure_held_out(images, {})["flow"]
    torch.testing.assert_close(family.measure_held_out(images[2:4], {})["flow"], errors[2:4])


def test_held_out_error_of_a_gaussian_is_that_of_its_exact_flow() -> None:
    # Between two standard normal distributions the error is the integral of 1 / (t^2 + (1 - t)^2), which is pi / 2.
    family = flow()
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4000, family.latent_size or 0, generator=generator)
    family.autoencoder.posterior = lambda images, labels: (latents, None)  # type: ignore[method-assign]
    assert family.measure_held_out(torch.zeros(4000, *IMAGE), {})["flow"].mean().item() == pytest.approx(1.57, abs=0.15)


def wrong_models(tmp_path: Path, config: Config) -> Iterator[tuple[dict[str, Any], str]]:
    for family, message in (("dcgan", "an autoencoder without a condition"), ("cvae", "without a condition")):
        run = tmp_path / family
        Trainer(config(family, run=str(run))).fit()
        yield {"autoencoder": str(run)}, message
    yield {"autoencoder": None}, "give its run as --model.autoencoder"


def test_models_that_are_no_autoencoder(tiny_config: Config, tmp_path: Path) -> None:
    for model, message in wrong_models(tmp_path, tiny_config):
        with pytest.raises(UserError, match=message):
            Trainer(tiny_config("flow", model=model, run=str(tmp_path / "flow")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"autoencoder": "nowhere"}, "nowhere does not exist"),
        ({"label": None, "guidance": 2.0}, "guidance needs a label"),
        ({"num_steps": 0}, "num_steps"),
        ({"guidance": -1.0}, "guidance"),
        ({"label_dropout": 1.0}, "label_dropout"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow(**{"label": "smile", **options})


def test_color_jitter_is_refused(tiny_config: Config, trained: Path) -> None:
    with pytest.raises(UserError, match=r"set --augment.brightness 0"):
        Trainer(tiny_config("flow", model={"autoencoder": str(trained)}, augment=AugmentConfig(brightness=0.1)))


@pytest.mark.parametrize("lacking", ["weights", "sha256"])
def test_a_description_that_names_no_weights(tiny_config: Config, trained: Path, lacking: str) -> None:
    described = flow(autoencoder=str(trained)).config.describe_autoencoder()
    named = {**described, "weights": "../raw"} if lacking == "weights" else {**described}
    named.pop("sha256" if lacking == "sha256" else "", None)
    with pytest.raises(UserError, match="which weights it means"):
        Trainer(tiny_config("flow", model={"autoencoder": str(trained), "autoencoder_config": named}))


def test_a_hostile_description_of_the_autoencoder() -> None:
    with pytest.raises(ValueError, match="names no family"):
        build("flow", flow().config.__class__(autoencoder_config={"family": "nothing"}), IMAGE)
