"""The DFC-VAE: the reference's sizes, each term of the loss, and the mistakes of public trainers."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facegen.config import parse_args
from facegen.families import FAMILIES, build
from facegen.families.base import TrainBatch
from facegen.families.dfc_vae import DFCVAE
from facegen.networks.conv import ConvDecoder, ConvEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape
from facegen.networks.dfc import DFCNetConfig, ScaledResidualBlock, ShiftBatchNorm2d
from facegen.optimization.ema import EMA
from facegen.options import OptimConfig, TrainConfig
from facegen.perceptual.feature_net import FeatureNet
from facegen.perceptual.inception_resnet import build_stages
from facegen.perceptual.loss import perceptual_error
from facegen.perceptual.options import FeatureNetConfig
from facegen.perceptual.torchvision_ops import make_torchvision_importable
from facegen.randomness import SlotRandom
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from tiny_families import IMAGE, tiny_family
from tiny_families import tiny_config as tiny_model

CPU = torch.device("cpu")
NAMES = ("dfc_vae", "dfc_vae_resnet", "dfc_vae_large")
MakeConfig = Callable[..., TrainConfig]
CONV = ConvNetConfig(widths=[8, 16], norm="none", output="linear", shortcut="linear", upsample="nearest")


def images_of(num: int, image: ImageShape = IMAGE) -> Tensor:
    return torch.rand(num, *image, generator=torch.Generator().manual_seed(1)) * 2 - 1


def batch_of(images: Tensor) -> TrainBatch:
    return TrainBatch(images, {}, SlotRandom(0, 0, slice(0, len(images)), len(images)), 0)


def tiny(name: str = "dfc_vae", **options: Any) -> DFCVAE:
    family = tiny_family(name, **options)
    assert isinstance(family, DFCVAE)
    return family


def terms_of(family: DFCVAE, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    result = family.losses("autoencoder", dict(family.networks.items()), batch_of(images))
    return result.loss, result.scalars


def gradients(module: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, materialize_grads=True))


def reference(name: str, size: int, **options: Any) -> Any:
    """The network at the reference's size, on the meta device."""
    with torch.device("meta"):
        family = build(name, FAMILIES[name].config_class(**options), ImageShape(3, size, size))
    assert family.latent_size == 100
    return family.networks["autoencoder"]


def shapes_through(stages: nn.Module, inputs: Tensor) -> list[tuple[int, ...]]:
    """Channels, height and width wherever a layer changes them."""
    shapes = [tuple(inputs.shape[1:])]
    for layer in stages.children():
        inputs = layer(inputs)
        if tuple(inputs.shape[1:]) != shapes[-1]:
            shapes.append(tuple(inputs.shape[1:]))
    return shapes


@pytest.mark.parametrize(
    ("name", "size", "num_parameters"),
    [("dfc_vae", 64, 2_311_403), ("dfc_vae_resnet", 64, 7_072_379), ("dfc_vae_large", 128, 5_228_351)],
)
def test_reference_sizes(name: str, size: int, num_parameters: int) -> None:
    assert sum(parameter.numel() for parameter in reference(name, size).parameters()) == num_parameters


def test_shape_chains_of_the_reference() -> None:
    network = reference("dfc_vae", 64)
    down = shapes_through(network.encoder.stages, torch.empty(1, 3, 64, 64, device="meta"))
    assert down == [(3, 64, 64), (32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert network.encoder.head.in_features == 4096
    up = shapes_through(network.decoder.stages, torch.empty(1, 256, 4, 4, device="meta"))
    # Each size is reached before its convolution changes the channels.
    assert up[::2] == [(256, 4, 4), (128, 8, 8), (64, 16, 16), (32, 32, 32), (3, 64, 64)]


@pytest.mark.parametrize(("wide_tail", "tail"), [(False, 3), (True, 32)])
def test_the_large_net_has_a_bottleneck_unless_its_tail_is_wide(wide_tail: bool, tail: int) -> None:
    network = reference("dfc_vae_large", 128, wide_tail=wide_tail)
    assert network.encoder.head.in_features == 8192
    convolutions = [layer for layer in network.decoder.stages if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 64, 32, tail, 3]


def test_the_blocks_of_the_resnet() -> None:
    network = reference("dfc_vae_resnet", 64)
    for half, widths, kernel in ((network.encoder, [32, 64, 128, 256], 4), (network.decoder, [128, 64, 32, 3], 3)):
        blocks = [layer for layer in half.stages if isinstance(layer, ScaledResidualBlock)]
        assert [block.layers[1].weight.shape[0] for block in blocks] == [width for width in widths for _ in range(3)]
        assert {block.layers[1].kernel_size for block in blocks} == {(kernel, kernel)}
    assert isinstance(network.decoder.stages[-1], nn.Conv2d)
    assert network.decoder.stages[-1].in_channels == 3


@pytest.mark.parametrize("kernel_size", [3, 4])
def test_a_block_pads_as_tensorflow_and_adds_a_tenth(kernel_size: int) -> None:
    block = ScaledResidualBlock(1, kernel_size, DFCNetConfig()).eval()
    with torch.no_grad():
        block.layers[1].weight.zero_()  # type: ignore[union-attr,operator]
        block.layers[1].weight[0, 0, 0, 0] = 1.0  # type: ignore[index,operator,union-attr]
    inputs = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    # "same" pads the odd row of an even kernel at the end, so the first tap looks one pixel up and left.
    shifted = torch.zeros_like(inputs)
    shifted[..., 1:, 1:] = inputs[..., :-1, :-1]
    torch.testing.assert_close(block(inputs), inputs + 0.1 * shifted / (1 + 1e-3) ** 0.5)


def test_weights_start_truncated_and_batch_norm_learns_a_shift_only() -> None:
    torch.manual_seed(0)
    network = build("dfc_vae", FAMILIES["dfc_vae"].config_class(), ImageShape(3, 64, 64)).networks["autoencoder"]
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert module.weight.abs().max() <= 0.2
            # Truncation at two deviations lowers the deviation from 0.1 to 0.088.
            assert module.weight.std().item() == pytest.approx(0.088, abs=0.008)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert isinstance(module, ShiftBatchNorm2d)
            assert [name for name, _ in module.named_parameters()] == ["bias"]
            assert (module.momentum, module.eps) == (0.005, 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_nets_of_every_size(name: str, size: int, channels: int) -> None:
    image = ImageShape(channels, size, size)
    family = tiny_family(name, image, perceptual_weight=0.0, features=FeatureNetConfig()).eval()
    with torch.no_grad():
        mu, logvar = family.posterior(images_of(2, image), {})
        assert mu.shape == (2, 6) and logvar is not None and logvar.shape == (2, 6)
        assert family.decode(mu, {}).shape == (2, *image)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_term_by_term(reduction: str) -> None:
    family = tiny(
        kld_weight=0.3,
        mse_weight=0.7,
        perceptual_weight=0.2,
        perceptual_reduction=reduction,
        features=FeatureNetConfig(layers=["stem", "blocks.1"], layer_weights=[2.0, 0.5]),
    ).eval()
    images = images_of(3)
    loss, scalars = terms_of(family, images)
    with torch.no_grad():
        noise = batch_of(images).random.normal("posterior", 6)
        reconstructions, mu, logvar = family.networks["autoencoder"](images, noise)
        assert family._frozen.net is not None
        pairs = zip(family._frozen.net(images), family._frozen.net(reconstructions), strict=True)
        stem, block = [(target - feature).square().flatten(1) for target, feature in pairs]
        if reduction == "sum":
            perceptual = (2.0 * stem.sum(1) + 0.5 * block.sum(1)).mean()
        else:
            perceptual = 0.5 * (2.0 * stem.mean(1) + 0.5 * block.mean(1)).mean()
        kl = (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(1).mean()
        sse = (images - reconstructions).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(scalars["perceptual"], perceptual)
    torch.testing.assert_close(loss.detach(), 0.7 * sse + 0.3 * kl + 0.2 * perceptual)
    torch.testing.assert_close(scalars["loss"], loss.detach())


def test_pixels_only_is_a_vae_and_loads_no_feature_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegen.families.feature_error.load_feature_net", lambda *args: pytest.fail("loaded one"))
    family = tiny(mse_weight=0.5, perceptual_weight=0.0, kld_weight=1.0, features=FeatureNetConfig())
    family.prepare(None, CPU)  # type: ignore[arg-type]
    _, scalars = terms_of(family, images_of(4))
    assert "perceptual" not in scalars
    # 1/2 SSE + KL is the negative ELBO of a decoder of variance 1.
    assert family.decoder_variance == 1.0
    assert scalars["beta_eff"] == 1.0


def test_a_loss_on_features_has_no_likelihood() -> None:
    family = tiny()
    assert family.decoder_variance is None
    assert "beta_eff" not in terms_of(family, images_of(4))[1]


def test_without_pixels_the_pixel_error_has_no_gradient() -> None:
    images = images_of(4)
    family = tiny(mse_weight=0.0, perceptual_weight=1e-3, kld_weight=0.0).eval()
    loss, _ = terms_of(family, images)
    noise = batch_of(images).random.normal("posterior", 6)
    reconstructions = family.networks["autoencoder"](images, noise).reconstructions
    alone = 1e-3 * family.perceptual(images, reconstructions)
    network = family.networks["autoencoder"]
    for both, one in zip(gradients(network, loss), gradients(network, alone), strict=True):
        torch.testing.assert_close(both, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()) + 1e-12)


@pytest.mark.parametrize("options", [{}, {"architecture": "conv", "network": DFCNetConfig(), "conv": CONV}])
def test_the_perceptual_term_teaches_the_decoder(options: dict[str, Any]) -> None:
    # A public trainer computed it under no_grad, so it was logged and had no effect.
    family = tiny(mse_weight=0.0, kld_weight=0.0, **options)
    loss, _ = terms_of(family, images_of(4))
    decoder: Any = family.networks["autoencoder"]
    for gradient in gradients(decoder.decoder, loss):
        assert gradient.abs().max() > 0


def test_the_loss_does_not_depend_on_the_batch_size() -> None:
    # facenet summed over the batch as well.
    family = tiny(mse_weight=0.0, kld_weight=0.0).eval()
    one = images_of(1)
    alone = family.perceptual(one, one.roll(1, 3))
    many = one.expand(5, -1, -1, -1)
    torch.testing.assert_close(family.perceptual(many, many.roll(1, 3)), alone, rtol=1e-4, atol=0)


def test_training_never_changes_the_feature_net(tiny_config: MakeConfig) -> None:
    # A public VGG with batch norm returned to train mode with the model and learned the batches' statistics.
    trainer = Trainer(tiny_config("dfc_vae", max_steps=3))
    family = trainer.family
    assert isinstance(family, DFCVAE) and family._frozen.net is not None
    net = family._frozen.net
    before = copy.deepcopy(net.state_dict())
    assert any("running_mean" in name for name in before)
    seen: list[bool] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(any(part.training for part in module.modules())))
    trainer.fit()
    assert seen and not any(seen)
    family.train()
    net.train()
    assert not any(part.training for part in net.modules())
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())


def test_the_feature_net_is_neither_saved_nor_averaged() -> None:
    family = tiny()
    terms_of(family, images_of(2))
    assert not [name for name in family.state_dict() if "frozen" in name]
    assert not any(isinstance(module, FeatureNet) for module in family.modules())
    average = EMA(family, 100).module
    assert isinstance(average, DFCVAE)
    assert average._frozen is family._frozen


def test_a_trained_model_needs_no_feature_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegen.families.feature_error.load_feature_net", lambda *args: pytest.fail("loaded one"))
    family = tiny(features=FeatureNetConfig(kind="inception_resnet_v1", weights="absent.pt")).eval()
    with torch.no_grad():
        family.decode(family.posterior(images_of(2), {})[0], {})


def test_a_run_refuses_to_resume_with_another_feature_net(tiny_config: MakeConfig, tmp_path: Path) -> None:
    def features(seed: int) -> FeatureNetConfig:
        torch.manual_seed(seed)
        torch.save(build_stages("conv2d_2a").state_dict(), tmp_path / "weights.pt")
        return FeatureNetConfig(
            "inception_resnet_v1", str(tmp_path / "weights.pt"), layers=["conv2d_1a"], input_size=16
        )

    assert Trainer(tiny_config("dfc_vae", max_steps=1, model={"features": features(0)})).fit() == 0
    assert Trainer(tiny_config("dfc_vae", max_steps=2, model={"features": features(0)})).fit() == 0
    with pytest.raises(UserError, match="this run started with feature net weights"):
        Trainer(tiny_config("dfc_vae", max_steps=3, model={"features": features(1)})).fit()


def test_a_run_resumes_with_its_feature_weights_in_another_place(tiny_config: MakeConfig, tmp_path: Path) -> None:
    def config(weights: str, max_steps: int) -> TrainConfig:
        features = FeatureNetConfig("inception_resnet_v1", str(tmp_path / weights), layers=["conv2d_1a"], input_size=16)
        return tiny_config("dfc_vae", max_steps=max_steps, model={"features": features})

    torch.save(build_stages("conv2d_2a").state_dict(), tmp_path / "before.pt")
    assert Trainer(config("before.pt", 1)).fit() == 0
    (tmp_path / "before.pt").rename(tmp_path / "after.pt")
    assert Trainer(config("after.pt", 2)).fit() == 0
    torch.save(build_stages("conv2d_2a").state_dict(), tmp_path / "others.pt")
    with pytest.raises(UserError, match="this run started with feature net weights"):
        Trainer(config("others.pt", 3)).fit()


def test_images_too_small_for_a_layer_are_refused_in_one_sentence(tmp_path: Path) -> None:
    torch.save(build_stages("conv2d_4b").state_dict(), tmp_path / "weights.pt")
    layers = ["conv2d_1a", "conv2d_4b"]
    features = FeatureNetConfig("inception_resnet_v1", str(tmp_path / "weights.pt"), layers=layers, input_size=16)
    with pytest.raises(
        UserError, match="16x16 are too small for layer conv2d_4b of .*larger --model.features.input_size"
    ):
        tiny(features=features).prepare(None, CPU)  # type: ignore[arg-type]


def test_the_perceptual_error_is_float32_under_autocast() -> None:
    family = tiny(mse_weight=0.0)
    images = images_of(2)
    family.prepare(None, CPU)  # type: ignore[arg-type]
    assert family._frozen.net is not None
    with torch.autocast("cpu", torch.bfloat16):
        errors = perceptual_error(family._frozen.net, images, images.roll(1, 3), "sum")
    exact = perceptual_error(family._frozen.net, images, images.roll(1, 3), "sum")
    for rounded, value in zip(errors, exact, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, value, rtol=0.1, atol=0)


def test_the_preset_of_the_reference() -> None:
    config = parse_args(["dfc_vae", "--config", "dfc_vae_facenet", "--data", "d", "--run", "r"])
    assert (config.global_batch_size, config.max_steps, config.optim.lr) == (128, 50_000, 2e-4)
    assert config.optim == OptimConfig(lr=2e-4, warmup_images=0)
    assert config.model == FAMILIES["dfc_vae"].config_class(
        features=FeatureNetConfig(kind="inception_resnet_v1", layers=["conv2d_1a", "conv2d_2a", "conv2d_2b"])
    )


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_the_preset_with_vgg_names_the_layers_of_the_paper() -> None:
    make_torchvision_importable()
    import timm

    features = parse_args(["dfc_vae", "--config", "dfc_vae_vgg19", "--data", "d", "--run", "r"]).model.features
    with torch.device("meta"):  # 20 million parameters, and only their shapes matter.
        layers = dict(timm.create_model(features.timm_model, num_classes=0).named_modules())
    # relu1_1, relu2_1 and relu3_1 follow the first convolution of each width.
    for name, width in zip(features.layers, (64, 128, 256), strict=True):
        stage, _, number = name.rpartition(".")
        convolution = layers[f"{stage}.{int(number) - 1}"]
        assert isinstance(layers[name], nn.ReLU)
        assert (convolution.in_channels, convolution.out_channels) == (3 if width == 64 else width // 2, width)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mse_weight": -1.0}, "mse_weight"),
        ({"perceptual_weight": -0.5}, "perceptual_weight"),
        ({"mse_weight": 0.0, "perceptual_weight": 0.0}, "both be 0"),
        ({"decoder_sigma": "learned", "kld_weight": 1.0, "reconstruction": "sum"}, "decoder_sigma"),
        ({"conv": ConvNetConfig(norm="none")}, "conv has no effect with architecture facenet"),
        ({"architecture": "conv", "network": DFCNetConfig(init_std=0.02)}, "network has no effect with architecture c"),
        ({"perceptual_weight": 0.0}, "features has no effect with perceptual_weight 0"),
        (
            {"perceptual_weight": 0.0, "features": FeatureNetConfig(), "perceptual_reduction": "mean"},
            "perceptual_reduction has no effect",
        ),
    ],
)
def test_impossible_options(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model("dfc_vae", **options)


@pytest.mark.parametrize("name", NAMES)
def test_the_other_autoencoders_network_stands_beside_facenets(name: str) -> None:
    model = FAMILIES[name].config_class(architecture="conv", conv=CONV)
    network: Any = build(name, model, IMAGE).networks["autoencoder"]
    assert isinstance(network.encoder, ConvEncoder) and isinstance(network.decoder, ConvDecoder)
    assert network.decoder.shortcut is not None


def test_a_wide_tail_needs_a_stage_before_the_last() -> None:
    with pytest.raises(ValueError, match="wide_tail"):
        tiny_model("dfc_vae_large", network=DFCNetConfig(widths=[8], decoder_widths=[8]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "widths"),
        ({"widths": [8, 8], "decoder_widths": [8]}, "as many numbers as"),
        ({"num_residual_blocks": -1}, "num_residual_blocks"),
        ({"norm_momentum": 0.0}, "norm_momentum"),
        ({"init_std": 0.0}, "init_std"),
    ],
)
def test_impossible_networks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DFCNetConfig(**options)
