"""The face CNN: its parameter counts, symmetric verification, and held-out pairs during training."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_families import batch_of, losses, smooth_images
from torch import Tensor
from torch.nn import functional as F

from facegen.families import FAMILIES
from facegen.families.face_cnn import FaceCNN
from facegen.losses.contrastive import contrastive_loss
from facegen.model import load
from facegen.networks.conv_config import ImageShape
from facegen.networks.face_cnn import FaceNet, FaceNetConfig
from facegen.options import EMAConfig, MonitorConfig, TrainConfig
from facegen.pixels import to_float, to_uint8
from facegen.processes.preemption import Preempted, StopFlag
from facegen.reporting.held_out import pair_batches
from facegen.reporting.pair_metrics import area_under_roc, equal_error_rate
from facegen.reporting.pictures import pair_grid
from facegen.reporting.validation import validate_pairs
from facegen.training.trainer import Trainer
from pretended_processes import AskedLater, OneOfMany
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.pairs import held_out_pairs, read_pairs
from shards.pack import main as pack
from tiny_families import tiny_family
from training_runs import metrics_of

MakeConfig = Callable[..., TrainConfig]
SAME = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0])


def small(**network: Any) -> FaceCNN:
    options = {"widths": [8, 16], "fc_widths": [16], "head_widths": [16, 16], "dropout": 0.0} | network
    return tiny_family("face_cnn", network=FaceNetConfig(**options)).eval()  # type: ignore[return-value]


# The network.


@pytest.mark.parametrize(("size", "features"), [(150, 18), (144, 18), (151, 18)])
def test_the_reference_has_6061762_parameters(size: int, features: int) -> None:
    # Padded convolutions, color, and 150 pixels halved three times: 150, 75, 37, 18. The number holds from 144 to 151.
    with torch.device("meta"):
        net = FaceNet(ImageShape(3, size, size), 256, FaceNetConfig())
    assert sum(parameter.numel() for parameter in net.parameters()) == 6_061_762
    assert net.tower.head[0].in_features == 128 * features**2
    for other in (ImageShape(3, 143, 143), ImageShape(3, 152, 152), ImageShape(1, 150, 150)):
        with torch.device("meta"):
            net = FaceNet(other, 256, FaceNetConfig())
        assert sum(parameter.numel() for parameter in net.parameters()) != 6_061_762


def test_the_layers_of_the_reference() -> None:
    with torch.device("meta"):
        net = FaceNet(ImageShape(3, 64, 64), 256, FaceNetConfig())
    convolutions = [module for module in net.tower.stages.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [64, 64, 128, 128, 128, 128]
    linear = [module.out_features for module in net.modules() if isinstance(module, torch.nn.Linear)]
    assert linear == [128, 256, 256, 128, 256, 128, 2]
    assert [module.p for module in net.tower.modules() if isinstance(module, torch.nn.Dropout)] == [0.25]
    names = [type(module).__name__ for module in net.head]
    assert names == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [64, 128, 75])
def test_stage_outputs_are_what_perceptual_losses_compare(size: int, channels: int) -> None:
    net = FaceNet(ImageShape(channels, size, size), 6, FaceNetConfig(widths=[4, 6, 8]))
    images = smooth_images(2, ImageShape(channels, size, size))
    outputs = net.eval().tower.stage_outputs(images)
    assert [tuple(output.shape) for output in outputs] == [
        (2, width, size // 2**stage, size // 2**stage) for stage, width in enumerate((4, 6, 8))
    ]
    assert all(output.min() >= 0 for output in outputs)
    last = F.max_pool2d(outputs[-1], 2).flatten(1)
    torch.testing.assert_close(net.tower(images), net.tower.head(last))


def test_the_initial_weights_keep_the_scale_of_the_signal() -> None:
    torch.manual_seed(0)
    net = FaceNet(ImageShape(3, 64, 64), 256, FaceNetConfig()).eval()
    with torch.no_grad():
        embeddings = net.tower(torch.randn(8, 3, 64, 64))
    # PyTorch's default weights leave a hundredth of it.
    assert 0.1 < (embeddings - embeddings.mean(0)).std() < 3


def test_embeddings_of_one_length() -> None:
    embeddings, _ = small(embedding_norm="l2").posterior(smooth_images(4), {})
    torch.testing.assert_close(embeddings.square().mean(1), torch.ones(4))
    embeddings, _ = small().posterior(smooth_images(4), {})
    assert embeddings.square().mean(1).std() > 1e-4


# Verification.


def test_verification_does_not_depend_on_the_order() -> None:
    first, second = smooth_images(8).chunk(2)
    family = small()
    torch.testing.assert_close(family.verify(first, second), family.verify(second, first), rtol=0, atol=0)
    signed = small(difference="signed")  # The reference's asymmetric form, available as an option.
    assert (signed.verify(first, second) - signed.verify(second, first)).abs().min() > 1e-4


def test_one_forward_compares_neighboring_images() -> None:
    family, images = small(), smooth_images(8)
    logits, embeddings = family.networks["verifier"](images)
    torch.testing.assert_close(embeddings, family.posterior(images, {})[0])
    torch.testing.assert_close(logits.softmax(1)[:, 1], family.verify(images[0::2], images[1::2]))
    assert not torch.allclose(logits.softmax(1)[:, 1], family.verify(images[:4], images[4:]))


def test_the_loss_is_the_cross_entropy_of_the_pairs() -> None:
    family, images = small(), smooth_images(8)
    terms = losses(family, "verifier", batch_of(images, labels={"same": SAME}))
    probability = family.verify(images[0::2], images[1::2])
    expected = torch.stack([probability[0], 1 - probability[1], probability[2], 1 - probability[3]])
    torch.testing.assert_close(terms.loss, -expected.log().mean())
    assert terms.scalars["accuracy"] == (expected > 0.5).float().mean()


def test_the_contrastive_loss_by_hand() -> None:
    # Unit vectors at 0, 60, 90 and 180 degrees: a pair of person 0, and a pair of the people 1 and 2.
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0]).deg2rad()
    embeddings = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    same, people = torch.tensor([1, 0]), torch.tensor([0, 0, 1, 2])
    first = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(0.0) + math.exp(-1.0)))
    second = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(math.cos(math.pi / 6)) + math.exp(-0.5)))
    assert contrastive_loss(embeddings, same, people, 1.0).item() == pytest.approx((first + second) / 2, rel=1e-5)
    # Another image of person 0 is neither right nor wrong.
    second = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(-0.5)))
    first = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(-1.0)))
    people = torch.tensor([0, 0, 0, 2])
    assert contrastive_loss(embeddings, same, people, 1.0).item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert contrastive_loss(embeddings, torch.zeros(2), people, 1.0) == 0


def test_the_contrastive_weight_adds_its_term() -> None:
    family = tiny_family("face_cnn", contrastive_weight=0.5, temperature=0.2).eval()
    images, people = smooth_images(8), torch.tensor([0, 0, 1, 2, 3, 3, 0, 1])
    terms = losses(family, "verifier", batch_of(images, labels={"same": SAME, "identity": people}))
    embeddings, _ = family.posterior(images, {})
    expected = contrastive_loss(embeddings, SAME[::2], people, 0.2)
    torch.testing.assert_close(terms.scalars["contrastive"], expected.detach())
    torch.testing.assert_close(terms.loss, terms.scalars["cross_entropy"] + 0.5 * expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contrastive_weight": -1.0}, "contrastive_weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 0.2}, "temperature has no effect with contrastive_weight 0"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FAMILIES["face_cnn"].config_class(**options)


@pytest.mark.parametrize("options", [{"widths": []}, {"fc_widths": [0]}, {"head_widths": [-1]}, {"dropout": 1.0}])
def test_impossible_networks(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FaceNetConfig(**options)


# Runs.


def test_held_out_people_are_not_trained_on(tiny_config: MakeConfig, tmp_path: Path) -> None:
    options = ["--num", "60", "--size", "16", "--workers", "1", "--split_by", "sample"]
    pack(["synthetic", str(tmp_path / "mixed"), *options])
    with pytest.raises(UserError, match="pairs would leak; pack it with --split_by identity"):
        Trainer(tiny_config("face_cnn", data=str(tmp_path / "mixed")))


def test_a_batch_holds_whole_pairs(tiny_config: MakeConfig) -> None:
    with pytest.raises(UserError, match="global_batch_size 15 cannot be shared equally .* in groups of 2"):
        Trainer(tiny_config("face_cnn", global_batch_size=15))
    gc.collect()
    seen: list[tuple[Tensor, Tensor]] = []

    def on_step(trainer: Trainer, batch: Any, terms: dict[str, Tensor]) -> None:
        people = torch.from_numpy(Dataset(trainer.config.data).labels("identity", "train"))[batch.rows]
        seen.append((batch.labels["same"], (people[0::2] == people[1::2]).long().repeat_interleave(2)))

    Trainer(tiny_config("face_cnn")).fit(on_step)
    assert all(torch.equal(label, truth) for label, truth in seen)


def test_a_run_logs_its_verification_of_held_out_pairs(tiny_config: MakeConfig) -> None:
    monitor = MonitorConfig(
        log_every_images=16, grid_every_images=32, validate_every_images=32, num_validation_images=40
    )
    config = tiny_config("face_cnn", monitor=monitor, ema=EMAConfig(half_life_images=20))
    Trainer(config).fit()
    gc.collect()
    held_out = [line for line in metrics_of(config) if "val/accuracy" in line]
    assert [line["images_seen"] for line in held_out] == [32, 64]
    model, dataset = load(config.run), Dataset(config.data)
    pairs = held_out_pairs(dataset, "val", 20)
    first, second = read_pairs(dataset, "val", pairs.rows)
    probabilities = model.verify(first.numpy(), second.numpy())
    assert probabilities.shape == (20,)
    assert held_out[-1]["val/accuracy"] == np.mean((probabilities > 0.5) == pairs.same)
    assert held_out[-1]["val/eer"] == pytest.approx(equal_error_rate(probabilities, pairs.same))
    assert held_out[-1]["val/auc"] == pytest.approx(area_under_roc(probabilities, pairs.same))
    # Sixteen pairs in rows of four, each framed.
    picture = Image.open(Path(config.run) / "pictures/pairs_images_000000000064.png")
    assert picture.size == (4 * (2 * 16 + 4 + 2) + 2, 4 * (16 + 4 + 2) + 2)


def test_one_validation_image_still_gives_a_pair_of_each_kind(tiny_config: MakeConfig) -> None:
    config = tiny_config("face_cnn", max_steps=1, monitor=MonitorConfig(num_validation_images=1))
    Trainer(config).fit()
    gc.collect()
    assert all(0 <= line["val/eer"] <= 1 for line in metrics_of(config) if "val/eer" in line)
    assert any("val/eer" in line for line in metrics_of(config))


def test_verify_takes_and_returns_either_form(tiny_config: MakeConfig) -> None:
    config = tiny_config("face_cnn", max_steps=1)
    Trainer(config).fit()
    gc.collect()
    model, images = load(config.run), smooth_images(8)
    exact = to_float(to_uint8(images))
    as_bytes = to_uint8(images).numpy()
    torch.testing.assert_close(
        torch.from_numpy(model.verify(as_bytes[:4], as_bytes[4:])), model.verify(exact[:4], exact[4:])
    )
    with pytest.raises(UserError, match="give equally many of both, not 4 and 3"):
        model.verify(exact[:4], exact[4:7])
    with pytest.raises(UserError, match="cannot decode; they can encode, verify"):
        model.decode(torch.zeros(1, 6))
    described = json.loads((next((Path(config.run) / "snapshots").iterdir()) / "snapshot.json").read_text())
    assert described["config"]["model"]["network"]["difference"] == "absolute"


def test_a_family_that_cannot_verify_says_so(tiny_config: MakeConfig) -> None:
    config = tiny_config("ae", max_steps=1)
    Trainer(config).fit()
    gc.collect()
    with pytest.raises(UserError, match="models of the family ae cannot verify"):
        load(config.run).verify(smooth_images(2), smooth_images(2))


def test_held_out_pairs_are_scored_once_by_any_number_of_processes(tiny_dataset: Path) -> None:
    family, dataset = small(), Dataset(tiny_dataset)
    pairs = held_out_pairs(dataset, "val", 22)
    alone = OneOfMany(0, 1)

    def scored(process: Any, stop: StopFlag) -> dict[str, float]:
        batches = pair_batches(dataset, "val", pairs, 4, process, stop)
        return validate_pairs(family, batches, pairs.same, process)

    values = scored(alone, AskedLater())
    first, second = read_pairs(dataset, "val", pairs.rows)
    scores = family.verify(to_float(first), to_float(second)).detach().numpy()
    assert values["auc"] == pytest.approx(area_under_roc(scores, pairs.same))
    assert values["accuracy"] == np.mean((scores > 0.5) == pairs.same)
    for num_processes in (2, 4):  # 22 pairs in batches of 4: of four processes two have one batch more.
        group = [OneOfMany(rank, num_processes, alone.given[0]) for rank in range(num_processes)]
        stops = [AskedLater() for _ in group]
        results = [scored(member, stop) for member, stop in zip(group, stops, strict=True)]
        assert len({stop.num_votes for stop in stops}) == 1
        torch.testing.assert_close(torch.stack([member.given[0] for member in group]).sum(0), alone.given[0])
        filled = torch.stack([member.given[0] != 0 for member in group]).sum(0)
        assert torch.equal(filled, torch.ones_like(filled))
        assert all(of_one == values for of_one in results)
    with pytest.raises(Preempted):
        scored(OneOfMany(0, 1), AskedLater(2))


def test_the_picture_frames_right_and_wrong_answers() -> None:
    faces = to_uint8(smooth_images(8))
    family = small()
    with torch.no_grad():
        is_same = (family.verify(to_float(faces[:4]), to_float(faces[4:])) > 0.5).long()
    for claimed, color in ((is_same, [0, 160, 0]), (1 - is_same, [220, 0, 0])):
        picture = pair_grid(family, faces[:4], faces[4:], claimed, num_columns=2)
        assert picture.shape == (2 * (20 + 2) + 2, 2 * (36 + 2) + 2, 3)
        assert picture[2, 2].tolist() == color
        assert torch.equal(picture[4:20, 4:20], faces[0])
        assert torch.equal(picture[4:20, 20:36], faces[4])
