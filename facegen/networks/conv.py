"""The convolutional encoder and its mirror image, shared by the autoencoding families."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from facegen.networks.attention import SelfAttention
from facegen.networks.components import ComponentDecoder, ComponentEncoder
from facegen.networks.conv_config import ConvNetConfig, ImageShape, feature_shape, latent_channels
from facegen.networks.norm import group_norm
from facegen.networks.patches import Grid, PatchDecoder, PatchEncoder, PrincipalComponents
from facegen.networks.pixel_shuffle import pixel_shuffle
from facegen.networks.refinement import Refinement


class ResidualBlock(nn.Module):
    """``x + f(x)`` with two convolutions in ``f`` (He et al. 2016)."""

    def __init__(self, width: int, config: ConvNetConfig) -> None:
        """Builds for ``width`` channels in and out."""
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        # Starting at f = 0, a deeper net behaves like the shallow one and needs no other learning rate.
        set_to_zero(last)
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), *_after_conv(width, config), last)

    def forward(self, features: Tensor) -> Tensor:
        """N x width x H x W to the same shape."""
        return features + self.layers(features)


class ConvEncoder(nn.Module):
    """Images to a vector: convolutions that halve the sides, then the bottleneck."""

    def __init__(
        self,
        image: ImageShape,
        out_features: int,
        config: ConvNetConfig,
        num_vectors: int = 1,
        num_conditions: int = 0,
    ) -> None:
        """Builds for images of ``image``.

        Args:
            image: Shape of the images.
            out_features: Length of the output.
            config: The network's options.
            num_vectors: Latent vectors concatenated in the output: 2 for mean and log variance.
            num_conditions: Planes that follow the image's channels; only the convolutions see them.

        Raises:
            ValueError: Images that cannot be halved often enough, or latents that do not fill a conv bottleneck.
        """
        super().__init__()
        self.num_vectors = num_vectors
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise([image.channels + num_conditions, *config.widths])):
            layers += _down(before, after, config, is_first=stage == 0)
            layers += _after_conv(after, config)
            layers += _residual_blocks(after, stage, image, config)
        self.stages = nn.Sequential(*layers)
        features = feature_shape(image, config)
        if config.bottleneck == "linear":
            channels = out_features
            self.head = nn.Linear(features.num_pixels, channels) if config.widths else None
        else:
            # Channels vary slowest in the flat output, so each vector is a whole group of channels.
            channels = num_vectors * latent_channels(out_features // num_vectors, features)
            self.head = nn.Conv2d(features.channels, channels, 1)
        grid = _grid(image, features, config)
        self.shortcut: PatchEncoder | ComponentEncoder | None = None
        if config.components.num:
            self.shortcut = ComponentEncoder(grid, channels, num_vectors, config.components)
        elif config.shortcut == "linear":
            self.shortcut = PatchEncoder(grid, channels)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W in [-1, 1], with the planes of conditions among C, to N x out_features."""
        if self.shortcut is None:
            return self._latents(images)
        latents = self.shortcut(images[:, : self.shortcut.grid.channels]).flatten(1)
        return latents if self.head is None else latents + self._latents(images)

    def _latents(self, images: Tensor) -> Tensor:
        """The latents of the convolutions."""
        features = self.stages(images)
        if isinstance(self.head, nn.Linear):
            features = features.flatten(1)
        assert self.head is not None
        return self.head(features).flatten(1)

    def start_from(self, components: PrincipalComponents, noise_variance: float) -> None:
        """Becomes the encoder of the best linear autoencoder or VAE; see ``PatchEncoder.start_from``."""
        assert self.shortcut is not None
        self.shortcut.start_from(components, noise_variance, has_logvar=self.num_vectors == 2)
        if self.head is not None:
            set_to_zero(self.head)


class ConvDecoder(nn.Module):
    """A vector to images: the bottleneck, then convolutions that double the sides."""

    def __init__(self, image: ImageShape, in_features: int, config: ConvNetConfig, num_conditions: int = 0) -> None:
        """Builds for images of ``image``.

        Args:
            image: Shape of the images.
            in_features: Length of the input.
            config: The network's options.
            num_conditions: How many inputs, the last ones, are no latents; only with bottleneck linear.

        Raises:
            ValueError: Images that cannot be halved often enough, or latents that do not fill a conv bottleneck.
        """
        super().__init__()
        features = feature_shape(image, config)
        self.features = features
        if config.bottleneck == "linear":
            self.latent_shape: tuple[int, ...] = (in_features,)
            self.head = nn.Linear(in_features, features.num_pixels) if config.widths else None
        else:
            self.latent_shape = (latent_channels(in_features, features), features.height, features.width)
            self.head = nn.Conv2d(self.latent_shape[0], features.channels, 1)
        layers: list[nn.Module] = []
        for stage, (after, before) in reversed([*enumerate(pairwise([image.channels, *config.widths]))]):
            layers += _residual_blocks(before, stage, image, config)
            layers += _up(before, after, config, is_last=stage == 0)
            # The last convolution makes pixels: no normalization, and its own activation.
            layers += _after_conv(after, config) if stage else []
        self.stages = nn.Sequential(*layers)
        self.output = config.output
        grid = _grid(image, features, config)
        self.shortcut: PatchDecoder | ComponentDecoder | None = None
        if config.components.num:
            self.shortcut = ComponentDecoder(grid, self.latent_shape[0], config.components, num_conditions)
        elif config.shortcut == "linear":
            self.shortcut = PatchDecoder(grid, self.latent_shape[0], num_conditions)
        self.refinement = Refinement(*image, config.refinement) if config.refinement.widths else None

    def forward(self, latents: Tensor) -> Tensor:
        """N x in_features to N x C x H x W, in [-1, 1] unless the output is linear."""
        if self.shortcut is None:
            images = self._images(latents)
        else:
            grid = self.shortcut.grid
            images = self.shortcut(latents.view(-1, self.latent_shape[0], grid.rows, grid.columns))
            images = images if self.head is None else images + self._images(latents)
        if self.refinement is not None:
            images = self.refinement(images)
        if self.output == "tanh":
            return images.tanh()
        return images.sigmoid() * 2 - 1 if self.output == "sigmoid" else images

    def _images(self, latents: Tensor) -> Tensor:
        """The images of the convolutions, before the last activation."""
        assert self.head is not None
        features = self.head(latents.unflatten(1, self.latent_shape))
        return self.stages(features.reshape(latents.shape[0], *self.features))

    def start_from(self, components: PrincipalComponents, noise_variance: float) -> None:
        """Becomes the decoder of the best linear autoencoder or VAE; see ``PatchDecoder.start_from``."""
        assert self.shortcut is not None
        self.shortcut.start_from(components, noise_variance)
        if self.head is not None:
            set_to_zero([layer for layer in self.stages if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1])


def set_to_zero(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Makes a layer's output 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _grid(image: ImageShape, features: ImageShape, config: ConvNetConfig) -> Grid:
    """One patch for each place that has latents of its own: the whole image where latents are a vector."""
    rows, columns = (1, 1) if config.bottleneck == "linear" else (features.height, features.width)
    return Grid(image.channels, rows, columns, image.height // rows, image.width // columns)


def _down(before: int, after: int, config: ConvNetConfig, is_first: bool) -> list[nn.Module]:
    if is_first and config.patch > 1:
        return [nn.PixelUnshuffle(config.patch), nn.Conv2d(before * config.patch**2, after, 3, padding=1)]
    return [nn.Conv2d(before, after, config.kernel_size, stride=2, padding=1)]


def _up(before: int, after: int, config: ConvNetConfig, is_last: bool) -> list[nn.Module]:
    if is_last and config.patch > 1:
        return pixel_shuffle(before, after, config.patch)
    if config.upsample == "nearest":
        return [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)]
    if config.upsample == "pixel_shuffle":
        return pixel_shuffle(before, after, 2)
    # A kernel of 3 needs one more row at the end to double the size exactly.
    output_padding = 1 if config.kernel_size == 3 else 0
    return [nn.ConvTranspose2d(before, after, config.kernel_size, 2, 1, output_padding)]


def _after_conv(width: int, config: ConvNetConfig) -> list[nn.Module]:
    norms = {"batch": nn.BatchNorm2d, "group": group_norm}
    layers: list[nn.Module] = [norms[config.norm](width)] if config.norm != "none" else []
    layers.append(nn.LeakyReLU(config.negative_slope))
    if config.dropout:
        layers.append(nn.Dropout(config.dropout))
    return layers


def _residual_blocks(width: int, stage: int, image: ImageShape, config: ConvNetConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = [ResidualBlock(width, config) for _ in range(config.num_blocks(stage))]
    rows = image.height // (max(config.patch, 2) * 2**stage)
    return [*blocks, SelfAttention(width)] if rows <= config.attention_side else blocks
