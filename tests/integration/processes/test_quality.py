"""Time to quality: trainings that take turns, each in its own process, and when they reach a target."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

import quality
from facegen.networks.conv_config import ImageShape
from launching import ROOT
from launching import run as run_command
from shards.base.errors import UserError
from shards.base.places import CACHE_VARIABLE
from shards.command_line.cli import run
from shards.dataset.dataset import Dataset
from shards.pack import main as pack
from time_to_quality import pythae_trainer, pytorch_vae
from time_to_quality.contest import Curve, Point, moments
from time_to_quality.output import Results, chart, page
from time_to_quality.output import until as cells
from time_to_quality.pytorch_vae import VanillaVAE
from time_to_quality.scores import RFD, parse_target, pca_mse
from time_to_quality.setup import Setup, read_images
from time_to_quality.systems import SYSTEMS
from time_to_quality.turns import Autoencoder, Codec, Facts, Finished, Order, Report, Turns

SCRIPT = ROOT / "tests" / "benchmarks" / "quality.py"
BUDGET_SEC = 2.0
OURS = (
    "vae --init pca --model.latent_size 8 --model.reconstruction sum --model.kld_weight 0.001 --augment.flip false "
    "--global_batch_size 8 --model.network.widths [4,8] --model.network.shortcut linear --model.network.output linear"
)


class Connection:
    """The other end of a pipe: gives known orders, whose times begin at the last report."""

    def __init__(self, *orders: Order | None) -> None:
        self.orders = list(orders)
        self.reports: list[Report] = []

    def recv(self) -> Order | None:
        order = self.orders.pop(0)
        return order and order._replace(until_sec=order.until_sec + (self.reports[-1].seconds if self.reports else 0))

    def send(self, report: Report) -> None:
        self.reports.append(report)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of 64 x 64 pixels, as published networks need them."""
    data = tmp_path_factory.mktemp("faces") / "data"
    pack(["synthetic", str(data), "--num", "48", "--size", "64", "--split_by", "sample", "--workers", "1"])
    return data


def test_trainings_take_turns_until_their_budgets_are_spent(faces: Path, tmp_path: Path) -> None:
    systems = ["ours", "pytorch_vae_net"]
    options = ["--ours", OURS, "--only", *systems, "--budget_sec", str(BUDGET_SEC), "--turn_sec", "1"]
    options += ["--target", "pca-8", "1e-9", "--distance_every", "0", "--threads", "1", "--out", str(tmp_path)]
    printed = run_command([sys.executable, str(SCRIPT), str(faces), *options])
    results = json.loads((tmp_path / "quality.json").read_text())
    by_name = {system["name"]: system for system in results["systems"]}
    assert list(by_name) == systems
    for system in by_name.values():
        assert not system["ended"] and system["seconds"] >= BUDGET_SEC
        seconds, images, mse = ([point[key] for point in system["points"]] for key in ("seconds", "images", "mse"))
        assert images[0] == 0 and seconds[0] > 0  # Before the first step, after the preparation.
        assert seconds == sorted(seconds) and images == sorted(images)
        assert images[-1] > 0 or seconds[0] >= BUDGET_SEC  # On a busy machine.
        # So weak a KL: the linear start reconstructs almost as the components themselves.
        assert mse[0] == pytest.approx(results["targets"]["pca-8"], rel=0.02)
        assert system["seconds_until"]["1e-9"] is None
        assert system["facts"]["beta_eff"] == pytest.approx(0.0005)
    assert by_name["pytorch_vae_net"]["facts"]["parameters"] == by_name["ours"]["facts"]["parameters"]
    assert (tmp_path / "quality.md").read_text() in printed


@pytest.mark.parametrize(
    ("trainer", "our_network", "beta_eff"),
    [
        # pythae's 1/2 SSE on [0, 1] is a quarter of that on [-1, 1].
        (pythae_trainer, False, 4.0),
        (pythae_trainer, True, 0.0005),
        (pytorch_vae, False, 0.00025 * 3 * 64 * 64 / 2),
    ],
)
def test_peers_train_their_network_and_ours(
    trainer: ModuleType,
    our_network: bool,
    beta_eff: float,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trainer is pythae_trainer:
        pytest.importorskip("pythae", reason="pythae is not installed")
    monkeypatch.setattr(trainer, "BATCH_SIZE", 2)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    setup = Setup(faces, tmp_path, "test", 2, 1, 0, OURS, OURS, OURS)
    setup.write_array()
    connection = Connection(Order(0, True, False), Order(0.3, True, False), None)
    turns = Turns(connection, setup.held_out())  # type: ignore[arg-type]
    with pytest.raises(Finished):
        trainer.train(our_network, our_network, setup, turns)
    before, after = connection.reports
    assert before.images == 0 < after.images and before.mse != after.mse
    assert before.facts is not None and before.facts.beta_eff == pytest.approx(beta_eff)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "pythae is not installed"
    for name in ("pythae", "pythae_kl", "pythae_net"):
        monkeypatch.setitem(SYSTEMS, name, SYSTEMS[name]._replace(missing=sentence))
    names, notes = quality.available([])
    assert names == ["ours", "old", "pytorch_vae", "pytorch_vae_kl", "pytorch_vae_net"] and notes == [sentence]
    with pytest.raises(UserError, match=f"^{sentence}.$"):
        quality.available(["pythae"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "pithae"], "--only does not know pithae"),
        (["--target", "pca-x"], "target must be an MSE, or pca-N"),
        (["--ours", "vae --lerning_rate 1"], "lerning_rate"),
        (["--ours", "ae", "--only", "pytorch_vae_net"], "give --net a family such as vae"),
    ],
)
def test_a_mistake_ends_it_before_it_begins(
    tiny_dataset: Path,
    options: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality.py", str(tiny_dataset), *options, "--threads", "1"])
    with pytest.raises(SystemExit) as ending:
        run(quality.main)
    printed = capsys.readouterr().err.splitlines()
    assert ending.value.code == 2 and len(printed) == 1 and sentence in printed[0]


def test_a_turn_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr("time_to_quality.turns.time.perf_counter", lambda: float(next(clock)))
    connection = Connection(Order(0, False, False), Order(5, False, False), Order(0, False, False), None)
    turns = Turns(connection, torch.zeros(2, 4, 4, 3, dtype=torch.uint8))  # type: ignore[arg-type]
    model = Autoencoder(Facts(0, 1, 1, None), lambda: pytest.fail("no evaluation was ordered"))
    turns.start()
    turns(0, model)
    with pytest.raises(Finished):
        for images_seen in range(1, 100):
            turns(images_seen, model)
    seconds = [report.seconds for report in connection.reports]
    assert len(seconds) == 3 and seconds[1] >= seconds[0] + 5
    assert connection.reports[1].images == connection.reports[2].images  # Its time was over when it was asked.


def test_evaluation_measures_the_mean_of_the_posterior(tiny_dataset: Path) -> None:
    images = read_images(Dataset(tiny_dataset), "test")

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return pixels.mean((1, 2, 3))[:, None], torch.zeros(len(pixels), 1)

    connection = Connection(Order(0, True, True), None)
    turns = Turns(connection, images)  # type: ignore[arg-type]
    codec = Codec(encode, lambda mu: mu[:, :, None, None].expand(-1, 3, 16, 16))
    turns.start()
    with pytest.raises(Finished):
        turns(0, Autoencoder(Facts(0, 1, 1, 1), lambda: codec))
    [report] = connection.reports
    pixels = images.double().div(127.5).sub(1)
    means = pixels.mean((1, 2, 3), keepdim=True)
    assert report.mse == pytest.approx(float((pixels - means).square().mean()), rel=1e-5)
    assert report.kl == pytest.approx(float(0.5 * means.square().mean()), rel=1e-4)
    assert report.reconstructions is not None and report.reconstructions.shape == tuple(images.shape)


def test_a_failure_before_the_first_turn_took_no_time() -> None:
    connection = Connection()
    Turns(connection, torch.zeros(2, 4, 4, 3, dtype=torch.uint8)).fail("no memory")  # type: ignore[arg-type]
    assert connection.reports == [Report(0.0, 0.0, 0, ended="no memory")]


def test_turns_grow_up_to_their_longest() -> None:
    ends = moments(budget_sec=100, first_sec=2, turn_sec=10)
    assert ends[:3] == [0, 2, 4] and ends[-1] == 100
    lengths = np.diff(ends)
    assert lengths.max() == 10 and (np.diff(lengths[:-1]) >= 0).all()


def test_targets_are_numbers_or_principal_components() -> None:
    assert parse_target("0.0032") == 0.0032 and isinstance(parse_target("1"), float)
    assert parse_target("pca-256") == 256
    for text in ("0", "pca-0", "pca", "-1", "nan"):
        with pytest.raises(ValueError, match="target"):
            parse_target(text)


def test_components_reconstruct_held_out_images_as_those_of_numpy(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    train, held_out = (read_images(dataset, split).flatten(1).double() / 127.5 - 1 for split in ("train", "test"))
    directions = torch.linalg.svd(train - train.mean(0), full_matrices=False).Vh[:8]
    centered = held_out - train.mean(0)
    expected = float((centered - centered @ directions.T @ directions).square().mean())
    assert pca_mse(8, dataset, read_images(dataset, "test")) == pytest.approx(expected, rel=1e-3)


def test_real_images_have_no_distance_from_themselves(tiny_dataset: Path) -> None:
    images = read_images(Dataset(tiny_dataset), "test", 4)
    rfd = RFD(images, inception=None)
    assert rfd.name == "rFD-EffLite0"
    assert rfd(images.numpy()) == pytest.approx(0, abs=1e-6) and rfd(images.numpy() // 2) > 1


def test_the_published_network_of_pytorch_vae_has_its_size() -> None:
    network = VanillaVAE(ImageShape(3, 64, 64))
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_937_635
    mu, logvar = network.posterior(torch.zeros(2, 3, 64, 64))
    assert mu.shape == logvar.shape == (2, 128) and network.decoder(mu).shape == (2, 3, 64, 64)
    with pytest.raises(UserError, match="multiples of 32"):
        VanillaVAE(ImageShape(3, 48, 48))


def curve(name: str, *points: tuple[float, float], cores: float = 1.0) -> Curve:
    facts = Facts(10, 8, 16, 0.5)
    measured = [Point(seconds, cores * seconds, int(10 * seconds), mse, 3.0, 7.0) for seconds, mse in points]
    return Curve(name, measured, facts, measured[-1].seconds, measured[-1].cpu_seconds, measured[-1].images)


def test_ratios_are_to_ours_and_a_miss_is_a_bound() -> None:
    ours = curve("ours", (2, 0.5), (4, 0.1), (40, 0.09))
    slow = curve("pytorch_vae", (2, 0.9), (10, 0.4), (40, 0.2), cores=0.5)
    assert cells(ours, ours, 0.1) == ("4.0", "1.0", "1.0")
    assert cells(slow, ours, 0.5) == ("10.0", "5.0", "2.5")
    assert cells(slow, ours, 0.1) == ("not within 40", "> 10.0", "> 5.0")
    assert cells(slow, ours, 0.01) == ("not within 40", "", "")
    assert cells(slow, None, 0.5) == ("10.0", "", "")


def test_a_system_that_failed_has_its_reason_and_no_numbers() -> None:
    failed = Curve("pythae", ended="no memory")
    results = Results({}, {"0.1": 0.1}, [curve("ours", (0, 0.5), (4, 0.1)), failed], "rFD-EffLite0")
    text = page(results, "quality")
    assert "after 0 s: no memory" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert "pythae" not in chart(results, "seconds")
