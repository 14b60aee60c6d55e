"""The CVAE: its networks layer by layer, the path of the degree, unknown degrees, and the reference's mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eval.latent.sample_conditions import condition_note, sample_labels
from eval.reports.context import Protocol, ReportContext
from eval.reports.run_pass import run_split
from eval.reports.statistic import LATENTS
from facegen.config import parse_args
from facegen.degrees import degrees_of
from facegen.families import build
from facegen.families.base import TrainBatch
from facegen.families.cvae import CVAE, CVAEConfig
from facegen.losses.vae import reparameterize
from facegen.model import load
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.smile import SmileDecoder, SmileEncoder
from facegen.optimization.optim import Updater
from facegen.options import AugmentConfig, MonitorConfig, OptimConfig, TrainConfig
from facegen.pixels import to_float
from facegen.processes.group import make_accelerator
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.loading.loader import evaluation_batches
from tiny_families import IMAGE

MakeConfig = Callable[..., TrainConfig]
NAN = float("nan")


def make(image: ImageShape = IMAGE, **options: Any) -> CVAE:
    """A CVAE without batch norm, so that the output depends on the input alone."""
    torch.manual_seed(0)
    defaults = {"latent_size": 6, "network": ConvNetConfig(widths=[8, 16], norm="none")}
    family = build("cvae", CVAEConfig(**defaults | options), image)
    assert isinstance(family, CVAE)
    return family


def reference(channels: int = 3, side: int = 50, **options: Any) -> CVAE:
    options = {"latent_size": 20, "architecture": "smile_rgb", "conditioning": "decoder"} | options
    family = build("cvae", CVAEConfig(**options), ImageShape(channels, side, side))
    assert isinstance(family, CVAE)
    return family


def batch_of(images: Tensor, degrees: Tensor, start: int = 0, stop: int | None = None) -> TrainBatch:
    slots = slice(start, len(images) if stop is None else stop)
    return TrainBatch(images[slots], {"smile": degrees[slots]}, SlotRandom(0, 0, slots, len(images)), 0)


def random_images(num: int, image: ImageShape = IMAGE) -> Tensor:
    return torch.rand(num, *image, generator=torch.Generator().manual_seed(1)) * 2 - 1


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# The networks.


def test_the_reference_networks_have_the_references_parameters() -> None:
    config = parse_args(["cvae", "--config", "cvae_smile", "--data", "d", "--run", "r"])
    family = build("cvae", config.model, ImageShape(3, 50, 50))
    network = family.networks["autoencoder"]
    assert num_parameters(network.encoder) == 4_892_744  # type: ignore[arg-type]
    assert num_parameters(network.decoder) == 4_891_171  # type: ignore[arg-type]
    assert num_parameters(network) == 4_892_744 + 4_891_171 + 1  # The last one stands for an unknown degree.
    # Means over 7,500 values and 20 latents; a squared error on [-1, 1] is 4 of one on [0, 1].
    assert family.decoder_variance == pytest.approx(4 * 7500 / 20 / 2)


@pytest.mark.parametrize(
    ("side", "chain"), [(50, [25, 13, 7, 4]), (64, [32, 16, 8, 4]), (128, [64, 32, 16, 8]), (51, [25, 13, 7, 4])]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_sides_shrink_and_grow_back(side: int, chain: list[int], channels: int) -> None:
    image = ImageShape(channels, side, side)
    sides: list[int] = []
    with torch.device("meta"):
        encoder, decoder = SmileEncoder(image, 10), SmileDecoder(image, 5)
    for module in [*encoder.modules(), *decoder.modules()]:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda module, args, output: sides.append(output.shape[2]))
    assert encoder(torch.zeros(2, *image, device="meta")).shape == (2, 10)
    assert decoder(torch.zeros(2, 5, device="meta")).shape == (2, *image)
    assert sides == [*chain, *chain[-2::-1], side]


@pytest.mark.parametrize("side", [50, 64, 128])
def test_the_gray_networks(side: int) -> None:
    with torch.device("meta"):  # 138 million parameters at 128 pixels.
        family = reference(1, side, architecture="smile_gray", latent_size=600)
        mu, logvar = family.posterior(torch.zeros(2, 1, side, side), {})
        assert logvar is not None and mu.shape == logvar.shape == (2, 600)
        assert family.decode(mu, {}).shape == (2, 1, side, side)
    convolutions = [m for m in family.networks["autoencoder"].encoder.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
    assert [(m.out_channels, m.stride) for m in convolutions] == [(16, (1, 1)), (32, (1, 1))]
    dense = [m.out_features for m in family.networks["autoencoder"].encoder.modules() if isinstance(m, nn.Linear)]  # type: ignore[union-attr]
    assert dense == [2048, 1200]


@pytest.mark.parametrize("preset", ["cvae_smile", "cvae_smile_gray"])
def test_the_reference_runs_are_as_long_on_any_data_set(preset: str) -> None:
    # A thousand epochs of the reference's 186 images; of SMILEs they would be 10.5 million images.
    config = parse_args(["cvae", "--config", preset, "--data", "d", "--run", "r"])
    assert (config.max_epochs, config.max_images) == (None, 186_000)


# The degree.


def test_labels_as_degrees() -> None:
    torch.testing.assert_close(degrees_of(torch.tensor([0, 1, -1])), torch.tensor([-1.0, 1.0, NAN]), equal_nan=True)
    degrees = torch.tensor([-0.7, NAN, 0.25], dtype=torch.float64)
    torch.testing.assert_close(degrees_of(degrees), degrees.float(), equal_nan=True)


def test_a_missing_label_is_an_unknown_degree_and_not_the_degree_0() -> None:
    family, latents = make().eval(), torch.randn(3, 6)
    network = family.networks["autoencoder"]
    nn.init.constant_(network.decoder_degree.unknown, 0.4)  # type: ignore[union-attr]
    unknown = family.decode(latents, {})
    torch.testing.assert_close(family.decode(latents, {"smile": torch.full((3,), NAN)}), unknown)
    torch.testing.assert_close(family.decode(latents, {"smile": torch.tensor([-1] * 3)}), unknown)
    torch.testing.assert_close(family.decode(latents, {"smile": torch.full((3,), 0.4)}), unknown)
    assert (family.decode(latents, {"smile": torch.zeros(3)}) - unknown).abs().max() > 1e-4


@pytest.mark.parametrize(("conditioning", "reaches"), [("decoder", False), ("both", True)])
def test_the_degree_reaches_the_encoder_only_on_request(conditioning: str, reaches: bool) -> None:
    family, images = make(conditioning=conditioning).eval(), random_images(2)
    low, high = (family.posterior(images, {"smile": torch.full((2,), degree)})[0] for degree in (-1.0, 1.0))
    assert ((low - high).abs().max() > 1e-4) == reaches


def test_a_bool_label_interpolates_smoothly() -> None:
    family = make().eval()
    degrees = torch.linspace(-1, 1, 41)
    with torch.no_grad():
        images = family.decode(torch.zeros(41, 6), {"smile": degrees})
    steps = (images[1:] - images[:-1]).flatten(1).norm(dim=1)
    assert steps.max() < 2 * steps.min()  # No step dominates.


@pytest.mark.parametrize("size", [1, 4])
def test_more_columns_of_the_degree_weigh_more(size: int) -> None:
    decoder = make(condition_size=size).networks["autoencoder"].decoder
    assert decoder.head.in_features == 6 + size  # type: ignore[union-attr]


def test_label_dropout_belongs_to_the_slot() -> None:
    family, degrees = make(label_dropout=0.3), torch.linspace(-1, 1, 1000)
    seen: list[Tensor] = []
    network = family.networks["autoencoder"]
    network.decoder_degree.register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[union-attr]
    images = random_images(1).expand(1000, -1, -1, -1)
    for start, stop in ((0, 1000), (0, 500), (500, 1000)):
        family.losses("autoencoder", {"autoencoder": network}, batch_of(images, degrees, start, stop))
    assert seen[0].isnan().float().mean().item() == pytest.approx(0.3, abs=0.05)
    torch.testing.assert_close(torch.cat(seen[1:]), seen[0], equal_nan=True)
    kept = ~seen[0].isnan()
    torch.testing.assert_close(seen[0][kept], degrees[kept])


# Keeping the degree out of the latents.


def test_only_known_degrees_count_in_the_game() -> None:
    family = make(independence_weight=1.0, label_dropout=0.0)
    networks = dict(family.networks.items())
    images, degrees = random_images(8), torch.linspace(-1, 1, 8)
    some = torch.where(torch.arange(8) < 4, degrees, NAN)
    terms = family.losses("predictor", networks, batch_of(images, some)).scalars["predictor_error"]
    first_half = family.losses("predictor", networks, batch_of(images, degrees, 0, 4)).scalars["predictor_error"]
    torch.testing.assert_close(terms, first_half / 2)


def test_each_turn_of_the_game_teaches_its_own_network() -> None:
    family = make(independence_weight=1.0)
    networks = dict(family.networks.items())
    batch = batch_of(random_images(8), torch.linspace(-1, 1, 8))
    family.losses("predictor", networks, batch).loss.backward()
    assert all(parameter.grad is None for parameter in family.networks["autoencoder"].parameters())
    without = make(independence_weight=0.0)
    plain = without.losses("autoencoder", dict(without.networks.items()), batch)
    result = family.losses("autoencoder", networks, batch)
    torch.testing.assert_close(result.loss - plain.loss, result.scalars["independence_loss"])
    assert without.turns == ("autoencoder",)


def degree_in_latents(independence_weight: float) -> float:
    """R^2 of a linear fit of the degree to sampled latents, after training on a few images."""
    image = ImageShape(1, 8, 8)
    family = make(
        image,
        latent_size=4,
        independence_weight=independence_weight,
        label_dropout=0.0,
        conditioning="decoder",
        network=ConvNetConfig(widths=[8], norm="none"),
    )
    networks = dict(family.networks.items())
    updaters = {name: Updater(network, OptimConfig(), torch.device("cpu"), False) for name, network in networks.items()}
    degrees = torch.linspace(-1, 1, 64)
    images = 0.3 * random_images(64, image) + 0.5 * degrees[:, None, None, None]
    for images_seen in range(0, 200 * 64, 64):
        batch = TrainBatch(images, {"smile": degrees}, SlotRandom(0, images_seen, slice(0, 64), 64), images_seen)
        for turn in family.turns:
            for name, network in networks.items():
                network.requires_grad_(name == turn)
            updaters[turn].backward(family.losses(turn, networks, batch).loss)
            updaters[turn].step(0.003)
    with torch.no_grad():
        mu, logvar = (part.repeat(20, 1) for part in family.posterior(images, {"smile": degrees}))  # type: ignore[union-attr]
    noise = torch.randn(len(mu), 4, generator=torch.Generator().manual_seed(0))
    design = torch.cat([reparameterize(mu, logvar, noise), torch.ones(len(mu), 1)], dim=1)
    wanted = degrees.repeat(20)
    residual = wanted - design @ torch.linalg.lstsq(design, wanted[:, None]).solution[:, 0]
    return 1 - (residual.var() / wanted.var()).item()


def test_the_game_takes_the_degree_out_of_the_latents() -> None:
    assert degree_in_latents(0.0) > 0.6
    assert degree_in_latents(0.03) < 0.2


# Data.


class Labeled:
    """The part of a data set that the family uses."""

    address = "faces"

    def __init__(self, **columns: tuple[str, list[float]]) -> None:
        kinds: dict[str, Any] = {"float": np.float32, "bool": np.int8, "class": np.int32}
        self.fields = {name: LabelField(kind) for name, (kind, _) in columns.items()}  # type: ignore[arg-type]
        self.columns = {name: np.array(values, kinds[kind]) for name, (kind, values) in columns.items()}

    def labels(self, name: str, split: str) -> np.ndarray:
        return self.columns[name]

    def shard_sizes(self, split: str) -> np.ndarray:
        return np.array([2, 3])


DATA: Any = Labeled(
    smile=("float", [0.5, NAN, -0.736, 1.0, NAN]),
    Smiling=("bool", [1, -1, 0, 1, -1]),
    age=("float", [20, 30, 40, 50, 60]),
    empty=("float", [NAN] * 5),
    identity=("class", [0, 1, 2, 3, 4]),
)


@pytest.mark.parametrize(("label", "low", "high"), [("smile", -0.736, 1.0), ("Smiling", -1.0, 1.0)])
def test_the_range_of_training_degrees_is_saved(label: str, low: float, high: float) -> None:
    family = make(label=label)
    family.prepare(DATA, torch.device("cpu"))
    assert (family.condition, family.condition_range) == (label, pytest.approx((low, high)))
    assert "degree_range" in family.state_dict()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("grin", "no label 'grin'.*name one of these with --model.label: smile, Smiling, age, empty"),
        ("identity", "'identity'.*holds classes"),
        ("empty", "no image of the train split of faces has the label 'empty'"),
        ("age", "'age'.*from 20 to 60.*must lie in"),
    ],
)
@pytest.mark.parametrize("unknown", ["embedding", "skip"])
def test_labels_that_are_not_degrees_are_refused(label: str, message: str, unknown: str) -> None:
    family = make(label=label, unknown=unknown)
    with pytest.raises(UserError, match=message):
        if unknown == "skip":
            family.units(DATA, "train", 0)
        family.prepare(DATA, torch.device("cpu"))


@pytest.mark.parametrize("label", ["smile", "Smiling"])
def test_images_without_a_degree_are_skipped_on_request(label: str) -> None:
    units = make(label=label, unknown="skip").units(DATA, "train", 0)
    assert units is not None
    assert units.per_shard.tolist() == [1, 2]
    assert units.draw(np.arange(3), 0).rows.tolist() == [0, 2, 3]
    assert make(label=label).units(DATA, "train", 0) is None


@pytest.mark.parametrize(
    "options",
    [
        {"condition_size": 0},
        {"label_dropout": 1.0},
        {"independence_weight": -0.1},
        {"architecture": "smile_rgb", "network": ConvNetConfig(widths=[8])},
        {"network": ConvNetConfig(widths=[], output="linear", shortcut="linear")},
    ],
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        CVAEConfig(**options)


# Runs.


@pytest.fixture
def often() -> MonitorConfig:
    return MonitorConfig(log_every_images=16, grid_every_images=32, validate_every_images=16, num_validation_images=20)


def metrics_of(config: TrainConfig) -> Iterator[dict[str, float]]:
    for line in (Path(config.run) / "metrics.jsonl").read_text().splitlines():
        yield json.loads(line)


def test_a_run_draws_sweeps_and_its_model_knows_the_condition(tiny_config: MakeConfig, often: MonitorConfig) -> None:
    config = tiny_config("cvae", max_steps=2, monitor=often)
    Trainer(config).fit()
    drawn = {path.name for path in (Path(config.run) / "pictures").iterdir()}
    assert {f"degree_sweep_{what}_images_000000000032.png" for what in ("faces", "samples")} <= drawn
    model = load(config.run)
    degrees = Dataset(config.data).labels("smile", "train")
    assert model.condition == "smile"
    assert model.condition_range == pytest.approx((degrees.min(), degrees.max()))
    low, high = (model.sample(2, labels={"smile": torch.full((2,), degree)}) for degree in (-1.0, 1.0))
    assert not torch.equal(low, high)
    for degrees in ([1, 1], np.ones(2)):
        assert torch.equal(model.sample(2, labels={"smile": degrees}), high)
    with pytest.raises(UserError, match=r"give 2 degrees of 'smile', one for each image, not \[3\]"):
        model.sample(2, labels={"smile": [-1, 0, 1]})


def test_a_sweep_goes_from_the_lowest_to_the_highest_degree_in_every_row() -> None:
    family = make().eval()
    pictures = family.pictures(random_images(8), {"smile": torch.zeros(8)})
    with torch.no_grad():
        mu, _ = family.posterior(random_images(8)[1:2], {"smile": torch.zeros(1)})
        ends = family.decode(mu.expand(2, -1), {"smile": torch.tensor([-1.0, 1.0])})
    images, num_columns = pictures["degree_sweep_faces"]
    torch.testing.assert_close(images[num_columns : 2 * num_columns][[0, -1]], ends)


def test_training_returns_to_train_mode_after_validation(tiny_config: MakeConfig, often: MonitorConfig) -> None:
    # The reference switched to eval mode for its first evaluation and never back, which froze batch norm.
    moved: list[Tensor] = []

    def on_step(trainer: Trainer, batch: Any, terms: Any) -> None:
        assert trainer.family.training
        assert all(module.training for module in trainer.family.modules())
        encoder = trainer.family.networks["autoencoder"].encoder
        moved.append(next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)).running_mean.clone())  # type: ignore[union-attr]

    Trainer(tiny_config("cvae", max_steps=4, monitor=often)).fit(on_step)
    assert all(not torch.equal(before, after) for before, after in zip(moved[:-1], moved[1:], strict=True))


def test_held_out_metrics_use_images_without_augmentation(tiny_config: MakeConfig, often: MonitorConfig) -> None:
    # The reference augmented its evaluation images.
    strong = AugmentConfig(flip=True, brightness=1.0, contrast=1.0, saturation=1.0)
    config = tiny_config("cvae", max_steps=2, monitor=often, augment=strong)
    Trainer(config).fit()
    logged = [line["val/mse"] for line in metrics_of(config) if "val/mse" in line][-1]
    batch = next(iter(evaluation_batches(Dataset(config.data), "val", 20, limit=20)))
    images = to_float(batch.images)
    reconstructions = load(config.run).reconstruct(images, batch.labels)
    assert logged == pytest.approx((reconstructions - images).square().mean().item(), rel=1e-4)


def test_latent_analysis_uses_the_mean(tiny_config: MakeConfig) -> None:
    # The reference ran its PCA on the history of variances.
    config = tiny_config("cvae", max_steps=2)
    Trainer(config).fit()
    model, dataset = load(config.run), Dataset(config.data)
    protocol = Protocol(dataset, "test", num_images=10, num_samples=1, batch_size=4, seed=0)
    report = ReportContext(protocol, torch.device("cpu"))
    latents = run_split(model, report, [LATENTS], make_accelerator(force_cpu=True))[LATENTS].ordered()
    batch = next(iter(evaluation_batches(dataset, "test", 10, limit=10)))
    mu, logvar = model.posterior(to_float(batch.images), batch.labels)
    assert logvar is not None
    np.testing.assert_allclose(latents, mu, atol=1e-5)
    assert np.abs(latents - logvar.numpy()).max() > 1e-2


# Samples for the report.


def test_samples_get_the_labels_of_the_split_row_after_row() -> None:
    model: Any = SimpleNamespace(condition="Smiling")
    labels = sample_labels(model, DATA, "test", 4, first=2, num=5)
    assert labels is not None
    assert labels["Smiling"].tolist() == [0, 1, 1, -1, 0]
    assert labels["Smiling"].dtype == torch.int64  # The loader's type; a float would count as a degree.
    assert "label Smiling of image i of the test split" in condition_note(model, DATA, "test")


@pytest.mark.parametrize(("condition", "note"), [(None, ""), ("grin", " The data set has no label grin")])
def test_samples_without_a_usable_condition(condition: str | None, note: str) -> None:
    model: Any = SimpleNamespace(condition=condition)
    assert sample_labels(model, DATA, "test", 4, first=0, num=2) is None
    assert condition_note(model, DATA, "test")[: len(note)] == note
