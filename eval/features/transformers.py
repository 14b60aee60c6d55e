"""Feature spaces of vision transformers: DINOv2's, and that of CLIP's image tower, as dgm-eval defines them.

Stein et al. 2023 (arXiv 2306.04675) found Fréchet distances in DINOv2's features to agree with people's judgment, and
EDM2 reports the same number. A feature is the class token after the last norm, of a ViT-L/14 at 224x224.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eval.features.resizing import resized
from eval.features.spaces import FeatureSpace
from facegen.perceptual.torchvision_ops import make_torchvision_importable
from facegen.perceptual.weight_files import read_tensors
from shards.base.errors import UserError
from shards.base.places import cache_directory
from shards.dataset.tar import sha256_file

INPUT_SIZE = 224
_OFFSET = 0.1
"""DINOv2 adds it to the new side when it scales its position embeddings; published numbers include its effect."""


@dataclass(frozen=True)
class Transformer:
    """A frozen transformer; mean and standard deviation are of pixels in [0, 1], for each channel."""

    space: str
    """Key of its feature space, and name of its weights on the command line."""
    model: str
    """timm's name of the network and its weights."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def url(self) -> str:
        """Address of the weights."""
        return f"https://huggingface.co/timm/{self.model}/resolve/main/model.safetensors"

    @property
    def path(self) -> Path:
        """Where the weights belong."""
        return cache_directory() / "weights" / f"{self.model}.safetensors"

    def find(self) -> Path:
        """The file of weights.

        Raises:
            UserError: It is not there, or timm is not installed.
        """
        _import_timm()
        if not self.path.is_file():
            raise UserError(f"not computed: get the weights with: python -m eval.weights --fetch {self.space}")
        return self.path

    def load(self, weights: Path, device: torch.device) -> FeatureSpace:
        """Loads the space from a file in the layout of timm, DINOv2 or OpenCLIP.

        Raises:
            UserError: timm is not installed, or the file does not hold these weights.
        """
        network = self._filled(weights).to(device)
        mean, std = (255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        return FeatureSpace(
            name=self.space,
            dim=network.num_features,
            sha256=sha256_file(weights),
            preprocessing=f"uint8, bicubic antialias to {INPUT_SIZE}x{INPUT_SIZE}, rounded, "
            "(x / 255 - mean) / std of its training images, float32 (dgm-eval)",
            device=device,
            extract=lambda images: network((resized(images, INPUT_SIZE) - mean) / std),
        )

    def _filled(self, weights: Path) -> Any:
        timm = _import_timm()
        from timm.models.vision_transformer import checkpoint_filter_fn  # type: ignore[import-not-found]

        advice = f"give another file as --file {self.space}=FILE to python -m eval.weights"
        tensors = read_tensors(weights, advice)
        with torch.device("meta"):  # Random weights of 300 million parameters would take seconds.
            network = timm.create_model(self.model, num_classes=0, img_size=INPUT_SIZE).eval().requires_grad_(False)
        try:
            if "pos_embed" in tensors:
                tensors["pos_embed"] = scaled_positions(tensors["pos_embed"], network.patch_embed.grid_size[0])
            tensors = checkpoint_filter_fn(tensors, network)
            tensors = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("head.")}
            network.load_state_dict(tensors, assign=True)
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            problem = " ".join(str(error).split())[:160]
            raise UserError(f"{weights} does not hold the weights of {self.model} ({problem}); {advice}.") from None
        return network


def scaled_positions(embeddings: Tensor, side: int) -> Tensor:
    """DINOv2's position embeddings for another grid, scaled as its own code does it; timm's differ.

    Args:
        embeddings: (1, 1 + n * n, d): of the class token, and of n x n patches.
        side: Patches along either side of the images.
    """
    token, patches = embeddings[:, :1].float(), embeddings[:, 1:].float()
    trained_side = math.isqrt(patches.shape[1])
    if trained_side == side:
        return embeddings
    grid = patches.unflatten(1, (trained_side, trained_side)).permute(0, 3, 1, 2)
    scale = (side + _OFFSET) / trained_side
    scaled = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([token, scaled.flatten(2).transpose(1, 2)], dim=1)


def _import_timm() -> Any:
    make_torchvision_importable()  # timm imports torchvision.
    if find_spec("timm") is None:
        raise UserError("not computed: install timm with: pip install 'facegen[perceptual]'")
    import timm  # type: ignore[import-not-found]

    return timm


DINOV2 = Transformer("dinov2", "vit_large_patch14_dinov2.lvd142m", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = Transformer(
    "clip",
    "vit_large_patch14_clip_224.datacompxl",
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
