"""Properties of every registered family, and of the VAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facegen.families import FAMILIES, Family
from facegen.families.base import TrainBatch, TurnLosses
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.optimization.optim import Updater
from facegen.options import OptimConfig
from facegen.randomness import SlotRandom
from tiny_families import IMAGE, TINY, tiny_config, tiny_family, tiny_labels

ABILITIES = {"encode", "posterior", "decode", "sample", "verify"}

every_family = pytest.mark.parametrize("name", FAMILIES)


def make(name: str, **options: Any) -> Family:
    """A VAE without batch norm, so that losses in training mode can be calculated by hand."""
    return tiny_family(name, **{"network": ConvNetConfig(widths=[8, 16], norm="none")} | options)


def batch_of(
    images: Tensor,
    start: int = 0,
    stop: int | None = None,
    images_seen: int = 0,
    labels: dict[str, Tensor] | None = None,
) -> TrainBatch:
    slots = slice(start, len(images) if stop is None else stop)
    labels = {label: values[slots] for label, values in (labels or {}).items()}
    return TrainBatch(images[slots], labels, SlotRandom(0, images_seen, slots, len(images)), images_seen)


def units_of(name: str, num_units: int = 4) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and labels of a batch of whole units, at least eight images."""
    unit_size = TINY[name]().unit_size
    num = max(1, 8 // (num_units * unit_size)) * num_units * unit_size
    return smooth_images(num), tiny_labels(name, num)


def smooth_images(num: int, image: ImageShape = IMAGE) -> Tensor:
    """Images with little detail, which a small net can learn."""
    coarse = torch.rand(num, image.channels, 3, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (image.height, image.width), mode="bilinear")


def losses(family: Family, turn: str, batch: TrainBatch) -> TurnLosses:
    return family.losses(turn, dict(family.networks.items()), batch)


@every_family
def test_one_batch_is_overfitted(name: str) -> None:
    if not TINY[name]().overfits:
        pytest.skip("noise keeps its loss up; its own tests show that it learns")
    family = tiny_family(name).train()
    updaters = {
        turn: Updater(family.networks[turn], OptimConfig(lr=0.01), torch.device("cpu"), False) for turn in family.turns
    }
    images, labels = units_of(name)
    falling = []
    for step in range(60):
        terms: dict[str, Tensor] = {}
        for turn in TINY[name]().learns or family.turns:
            for other, network in family.networks.items():
                network.requires_grad_(other == turn)
            result = losses(family, turn, batch_of(images, images_seen=len(images) * step, labels=labels))
            updaters[turn].backward(result.loss)
            updaters[turn].step(0.01)
            terms |= result.scalars
        falling.append(terms[TINY[name]().falls].item())
    assert falling[-1] < 0.2 * falling[0]


@every_family
def test_every_parameter_gets_a_gradient(name: str) -> None:
    family = tiny_family(name).eval()  # In train mode, batch norm would cancel some biases.
    images, labels = units_of(name)
    for parameter in family.networks.parameters():
        if not parameter.any():  # Layers that start at 0 let no gradient through.
            nn.init.normal_(parameter, std=0.1)
    for turn in family.turns:
        losses(family, turn, batch_of(images, labels=labels)).loss.backward()
        for parameter_name, parameter in family.networks[turn].named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.abs().max() > 0, parameter_name


@every_family
@pytest.mark.parametrize("image", [IMAGE, ImageShape(1, 16, 24)])
def test_the_interface_holds(name: str, image: ImageShape) -> None:
    family = tiny_family(name, image).eval()
    assert family.can <= ABILITIES
    assert set(family.turns) == set(family.networks)
    images, labels = smooth_images(5, image), tiny_labels(name, 5)
    assert family.condition is None or family.condition in labels
    if "encode" in family.can:
        mu, logvar = family.posterior(images, labels)
        assert mu.shape == (5, family.latent_size)
        assert (logvar is not None) == ("posterior" in family.can)
        assert logvar is None or logvar.shape == mu.shape
    if family.can & {"decode", "sample"}:
        for given in (labels, {}):  # A condition is always optional.
            decoded = family.decode(10 * torch.randn(5, family.latent_size or 0), given)
            assert decoded.shape == images.shape
            assert decoded.isfinite().all()
    for picture in family.pictures(images, labels).values():
        assert picture.images.shape[1:] == images.shape[1:]
        assert len(picture.images) % picture.num_columns == 0


@every_family
@pytest.mark.parametrize("size", [64, 128])
def test_images_of_64_and_128_pixels_are_trained_on(name: str, size: int) -> None:
    image = ImageShape(3, size, size)
    family = tiny_family(name, image).train()
    num = 2 * TINY[name]().unit_size
    images, labels = smooth_images(num, image), tiny_labels(name, num)
    for turn in family.turns:
        result = losses(family, turn, batch_of(images, labels=labels))
        result.loss.backward()
        assert result.loss.isfinite()


@every_family
def test_losses_do_not_depend_on_how_the_batch_is_cut(name: str) -> None:
    family = tiny_family(name).eval()  # In train mode, batch norm sees the whole micro-batch.
    images, labels = units_of(name)
    part_size = len(images) // 4
    for turn in family.turns:
        whole = losses(family, turn, batch_of(images, labels=labels))
        parts = [
            losses(family, turn, batch_of(images, start, start + part_size, labels=labels))
            for start in range(0, len(images), part_size)
        ]
        torch.testing.assert_close(torch.stack([part.loss for part in parts]).mean(), whole.loss)
        for scalar in whole.scalars:
            torch.testing.assert_close(
                torch.stack([part.scalars[scalar] for part in parts]).mean(), whole.scalars[scalar]
            )


@every_family
def test_logged_terms_have_no_gradient_and_unique_names(name: str) -> None:
    family = tiny_family(name).train()
    images, labels = units_of(name)
    names: list[str] = []
    for turn in family.turns:
        terms = losses(family, turn, batch_of(images, labels=labels))
        assert terms.loss.requires_grad and terms.loss.ndim == 0
        logged = [*terms.scalars.values(), *([] if terms.kl_per_dim is None else [terms.kl_per_dim])]
        assert not any(value.requires_grad for value in logged)
        names += terms.scalars
    assert len(names) == len(set(names))
    assert {TINY[name]().falls, *family.observes} <= set(names)


@every_family
def test_eval_mode_is_deterministic_and_independent_of_the_batch(name: str) -> None:
    family = tiny_family(name)
    images, labels = units_of(name)
    with torch.no_grad():
        for turn in family.turns:  # Moves batch norm's averages from their initial values.
            losses(family.train(), turn, batch_of(images, labels=labels))
        family.eval()
        if "encode" not in family.can:
            return
        mu, _ = family.posterior(images, labels)
        again, _ = family.posterior(images, labels)
        torch.testing.assert_close(mu, again, rtol=0, atol=0)
        alone, _ = family.posterior(images[2:3], {label: values[2:3] for label, values in labels.items()})
        torch.testing.assert_close(mu[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "onlooker", "turn"),
    [
        ("cvae", "autoencoder", "predictor"),
        ("dcgan", "generator", "discriminator"),
        ("vae_gan", "autoencoder", "discriminator"),
    ],
)
def test_batch_norm_averages_move_only_in_their_own_turn(name: str, onlooker: str, turn: str) -> None:
    family = tiny_family(name).train()
    images, labels = units_of(name)
    network = family.networks[onlooker]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    losses(family, turn, batch_of(images, labels=labels))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    losses(family, onlooker, batch_of(images, labels=labels))
    counts = [value.item() for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")]
    assert counts and set(counts) == {1}


@every_family
def test_images_that_cannot_be_halved_are_refused(name: str) -> None:
    refused = TINY[name]().refused
    with pytest.raises(ValueError, match=f"images of {refused.height}x{refused.width}"):
        tiny_family(name, refused)


@every_family
def test_a_latent_size_below_one_is_refused(name: str) -> None:
    if not hasattr(tiny_config(name), "latent_size"):
        pytest.skip("its latents are those of another model")
    with pytest.raises(ValueError, match="latent_size"):
        tiny_config(name, latent_size=0)


def test_the_latents_of_a_vae_are_the_mean_and_never_a_sample() -> None:
    # Three references analyzed a sampled z; the mean is the first half of the encoder's head.
    family, images = tiny_family("vae").eval(), smooth_images(4)
    mu, logvar = family.posterior(images, {})
    head = family.networks["autoencoder"].encoder(images)  # type: ignore[union-attr,operator]
    torch.testing.assert_close(mu, head[:, :6], rtol=0, atol=0)
    torch.testing.assert_close(logvar, head[:, 6:], rtol=0, atol=0)


def test_training_decodes_a_sample_with_normal_noise() -> None:
    family = make("vae")
    seen: list[Tensor] = []
    network = family.networks["autoencoder"]
    network.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[union-attr,operator]
    images = smooth_images(1).expand(4000, -1, -1, -1)
    with torch.no_grad():
        losses(family, "autoencoder", batch_of(images))
        mu, logvar = family.posterior(images[:1], {})
    assert logvar is not None
    noise = (seen[0] - mu) / (0.5 * logvar).exp()
    assert noise.var().item() == pytest.approx(1.0, abs=0.03)
    # The fourth moment of a normal is 3; that of one reference's uniform noise is 1.8.
    assert noise.pow(4).mean().item() == pytest.approx(3.0, abs=0.3)


def test_the_vae_objective_term_by_term() -> None:
    images = smooth_images(6)
    for reduction, num_values, num_dims in (("mean", 768, 6), ("sum", 1, 1)):
        terms = losses(make("vae", reconstruction=reduction, kld_weight=0.3), "autoencoder", batch_of(images))
        scalars = {name: value.item() for name, value in terms.scalars.items()}
        assert scalars["reconstruction"] == pytest.approx(scalars["mse"] * 768 / num_values, rel=1e-5)
        assert scalars["loss"] == pytest.approx(scalars["reconstruction"] + 0.3 * scalars["kl"] / num_dims, rel=1e-5)
        assert terms.kl_per_dim is not None
        assert scalars["kl"] == pytest.approx(terms.kl_per_dim.sum().item(), rel=1e-5)


def test_kl_warmup_follows_the_images_seen() -> None:
    family = make("vae", kld_weight=2.0, kld_warmup="linear", kld_warmup_images=100)
    added = []
    for images_seen in (0, 50, 100, 500):
        scalars = losses(family, "autoencoder", batch_of(smooth_images(4), images_seen=images_seen)).scalars
        added.append((scalars["loss"] - scalars["reconstruction"]).item() / (2.0 * scalars["kl"].item() / 6))
    assert added == pytest.approx([0.0, 0.5, 1.0, 1.0], rel=1e-4, abs=1e-6)


def test_dims_below_the_free_bits_get_no_gradient() -> None:
    def kl_gradient(free_bits: float) -> tuple[Tensor, Tensor]:
        # Without a reconstruction error, only the KL's gradient reaches the encoder's head.
        family = make("vae", free_bits=free_bits, kld_weight=1.0)
        network = family.networks["autoencoder"]
        for parameter in network.decoder.parameters():  # type: ignore[union-attr]
            torch.nn.init.zeros_(parameter)
        head = network.encoder.head  # type: ignore[union-attr]
        torch.nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        head.bias.data = torch.tensor([2.0, 0.1, 0, 0, 0, 0] + [0.0] * 6)  # type: ignore[union-attr]
        terms = losses(family, "autoencoder", batch_of(torch.zeros(4, *IMAGE)))
        terms.loss.backward()
        assert terms.kl_per_dim is not None
        return head.bias.grad[:2], terms.kl_per_dim[:2]  # type: ignore[union-attr,index,return-value]

    gradient, kl = kl_gradient(0.0)
    torch.testing.assert_close(kl, torch.tensor([2.0, 0.005]))
    torch.testing.assert_close(gradient, torch.tensor([2.0, 0.1]) / 6)
    gradient, kl = kl_gradient(0.5)
    torch.testing.assert_close(kl, torch.tensor([2.0, 0.005]))  # The logged KL ignores free bits.
    torch.testing.assert_close(gradient, torch.tensor([2.0, 0.0]) / 6)


def test_the_beta_vae_is_the_summed_objective_with_a_weight_above_one() -> None:
    images = smooth_images(4)
    beta = losses(make("beta_vae"), "autoencoder", batch_of(images))
    vae = losses(make("vae", reconstruction="sum", kld_weight=4.0), "autoencoder", batch_of(images))
    torch.testing.assert_close(beta.loss, vae.loss)
    assert make("beta_vae").decoder_variance == 2.0


@pytest.mark.parametrize(
    "options",
    [
        {"kld_weight": -0.1},
        {"free_bits": -1.0},
        {"kld_warmup": "linear"},
        {"kld_warmup_images": 100},
        {"kld_warmup": "linear", "kld_warmup_images": -100},
        {"kld_warmup": "linear", "kld_warmup_images": 100, "kld_weight": 0.0},
        {"free_bits": 0.1, "kld_weight": 0.0},
    ],
)
def test_impossible_vae_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        FAMILIES["vae"].config_class(**options)
