"""DINOv2's and CLIP's spaces against dgm-eval's definition, written out here, on networks of random weights."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import eval
from eval.features import known_weights, transformers
from eval.features.feature_set import FeatureSets
from eval.features.resizing import resized
from eval.features.spaces import FeatureSpace
from eval.features.transformers import CLIP, DINOV2, Transformer, scaled_positions
from eval.metrics.frechet import frechet_distance
from shards.base.errors import UserError
from tiny_runs import untrained_run

timm = pytest.importorskip("timm", reason="timm, an optional package, is not installed")

CPU = torch.device("cpu")
DIM, DEPTH, HEADS = 24, 2, 2
GELU = torch.nn.functional.gelu
Tensors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's ViT-L/14 with fewer and smaller layers."""
    tiny = partial(timm.create_model, embed_dim=DIM, depth=DEPTH, num_heads=HEADS)
    monkeypatch.setattr(timm, "create_model", tiny)


def random_state(network: Transformer, dim: int = DIM, depth: int = DEPTH) -> Tensors:
    """Random weights in the layout of the published file, which this lists."""
    generator = torch.Generator().manual_seed(0)
    is_clip = network is CLIP
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + (16 if is_clip else 37) ** 2, dim),
        "patch_embed.proj.weight": (dim, 3, 14, 14),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    shapes |= {"norm_pre.weight": (dim,), "norm_pre.bias": (dim,), "head.weight": (8, dim)} if is_clip else {}
    shapes |= {} if is_clip else {"patch_embed.proj.bias": (dim,), "mask_token": (1, dim)}
    for block in range(depth):
        layers: dict[str, tuple[int, ...]] = {
            "norm1.weight": (dim,),
            "attn.qkv.weight": (3 * dim, dim),
            "attn.proj.weight": (dim, dim),
            "norm2.weight": (dim,),
            "mlp.fc1.weight": (4 * dim, dim),
            "mlp.fc2.weight": (dim, 4 * dim),
        }
        layers |= {name.replace("weight", "bias"): shape[:1] for name, shape in layers.items()}
        layers |= {} if is_clip else {"ls1.gamma": (dim,), "ls2.gamma": (dim,)}
        shapes |= {f"blocks.{block}.{name}": shape for name, shape in layers.items()}
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def as_open_clip(state: Tensors) -> Tensors:
    """The same weights under OpenCLIP's names, beside a text tower."""
    names = {
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "blocks.": "transformer.resblocks.",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "fc1": "c_fc",
        "fc2": "c_proj",
    }
    found = {"token_embedding.weight": torch.zeros(3, 3), "logit_scale": torch.zeros(())}
    for name, tensor in state.items():
        if name.startswith("norm."):
            name = name.replace("norm.", "ln_post.")
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        name = {"cls_token": "class_embedding", "pos_embed": "positional_embedding", "head.weight": "proj"}.get(
            name, name
        )
        shape = {"class_embedding": (-1,), "positional_embedding": (-1, DIM)}.get(name, tensor.shape)
        found[f"visual.{name}"] = (tensor.mT if name == "proj" else tensor.reshape(shape)).contiguous()
    return found


def saved(state: Tensors, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def loaded(network: Transformer, folder: Path) -> FeatureSpace:
    return network.load(saved(random_state(network), folder / "weights.safetensors"), CPU)


def faces(num: int = 5, side: int = 40) -> Tensor:
    coarse = torch.rand(num, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255
    return torch.nn.functional.interpolate(coarse, size=side, mode="bilinear").to(torch.uint8).permute(0, 2, 3, 1)


def keys_cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, which torch's bicubic interpolation has."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def interpolated(grid: np.ndarray, side: int, offset: float) -> np.ndarray:
    """A grid (n, n, d) at side x side points whose spacing is n / (side + offset)."""
    num = len(grid)
    weights = np.zeros((side, num))
    for point in range(side):
        center = (point + 0.5) * num / (side + offset) - 0.5
        for neighbor in range(math.floor(center) - 1, math.floor(center) + 3):
            weights[point, min(max(neighbor, 0), num - 1)] += keys_cubic(center - neighbor)
    return np.einsum("ai,cj,ijd->acd", weights, weights, grid)


def normed(x: np.ndarray, state: dict[str, np.ndarray], name: str, epsilon: float) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    normed = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)
    return normed * state[f"{name}.weight"] + state[f"{name}.bias"]


def defined(network: Transformer, images: Tensor) -> np.ndarray:
    """dgm-eval's features: Pillow's bicubic 224x224, then the class token of the transformer, in float64."""
    state = {name: tensor.double().numpy() for name, tensor in random_state(network).items()}
    is_clip, size, patch = network is CLIP, 224, 14
    epsilon, side = (1e-5 if is_clip else 1e-6), size // patch
    pictures = [Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BICUBIC) for image in images]
    mean, std = (
        ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        if is_clip
        else (
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
        )
    )
    pixels = (np.stack([np.asarray(picture) for picture in pictures]) / 255 - mean) / std
    patches = (
        pixels.reshape(-1, side, patch, side, patch, 3).transpose(0, 1, 3, 5, 2, 4).reshape(len(images), side**2, -1)
    )
    tokens = patches @ state["patch_embed.proj.weight"].reshape(DIM, -1).T + state.get("patch_embed.proj.bias", 0)
    positions = state["pos_embed"][0, 1:]
    if not is_clip:
        positions = interpolated(positions.reshape(37, 37, DIM), side, offset=0.1).reshape(-1, DIM)
    tokens = tokens + positions
    token = np.broadcast_to(state["cls_token"] + state["pos_embed"][:, :1], (len(images), 1, DIM))
    x = np.concatenate([token, tokens], axis=1)
    x = normed(x, state, "norm_pre", epsilon) if is_clip else x
    for block in range(DEPTH):
        own = {name.split(".", 2)[2]: value for name, value in state.items() if name.startswith(f"blocks.{block}.")}
        y = normed(x, own, "norm1", epsilon) @ own["attn.qkv.weight"].T + own["attn.qkv.bias"]
        query, key, value = y.reshape(*y.shape[:2], 3, HEADS, DIM // HEADS).transpose(2, 0, 3, 1, 4)
        scores = np.exp(query @ key.transpose(0, 1, 3, 2) / math.sqrt(DIM // HEADS))
        heads = (scores / scores.sum(-1, keepdims=True)) @ value
        heads = heads.transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + own.get("ls1.gamma", 1) * (heads @ own["attn.proj.weight"].T + own["attn.proj.bias"])
        y = normed(x, own, "norm2", epsilon) @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]
        y = GELU(torch.from_numpy(y)).numpy() @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
        x = x + own.get("ls2.gamma", 1) * y
    return normed(x, state, "norm", epsilon)[:, 0]


@pytest.mark.parametrize("network", [DINOV2, CLIP], ids=lambda network: network.space)
@pytest.mark.parametrize(("side", "tolerance"), [(224, 1e-3), (40, 0.02)])
def test_features_are_those_of_the_definition(
    network: Transformer, side: int, tolerance: float, tmp_path: Path
) -> None:
    images = faces(side=side)
    space, expected = loaded(network, tmp_path), defined(network, images)
    features = space(images)
    assert features.shape == (5, space.dim) == expected.shape and features.dtype == np.float32
    # Pillow's fixed-point numbers round some exact halves otherwise.
    np.testing.assert_allclose(features, expected, rtol=0, atol=tolerance * expected.std(axis=0).mean())


def test_images_are_resized_as_pillow_does_it() -> None:
    images = faces(side=64)
    expected = [
        np.asarray(Image.fromarray(image.numpy()).resize((224, 224), Image.Resampling.BICUBIC)) for image in images
    ]
    difference = resized(images, 224).permute(0, 2, 3, 1).numpy() - np.stack(expected)
    assert np.abs(difference).max() <= 2 and np.abs(difference).mean() < 0.03


def test_positions_are_scaled_by_dinov2s_offset() -> None:
    embeddings = random_state(DINOV2)["pos_embed"]
    grid = embeddings[0, 1:].double().numpy().reshape(37, 37, DIM)
    found = scaled_positions(embeddings, 16)[0].double().numpy()
    np.testing.assert_allclose(found[1:], interpolated(grid, 16, 0.1).reshape(-1, DIM), atol=1e-5)
    np.testing.assert_array_equal(found[0], embeddings[0, 0].numpy())
    assert np.abs(found[1:] - interpolated(grid, 16, 0.0).reshape(-1, DIM)).max() > 0.01


@pytest.mark.parametrize("network", [DINOV2, CLIP], ids=lambda network: network.space)
def test_the_published_layout_is_that_of_timms_network(network: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with torch.device("meta"):
        full = timm.create_model(network.model, num_classes=0)
    with torch.device("meta"):
        listed = {name: tensor.shape for name, tensor in random_layout(network).items()}
    del listed["head.weight" if network is CLIP else "mask_token"]
    assert {name: tensor.shape for name, tensor in full.state_dict().items()} == listed
    assert (full.num_features, full.blocks[0].attn.num_heads) == (1024, 16)
    assert full.norm.eps == (1e-5 if network is CLIP else 1e-6) and isinstance(full.blocks[0].mlp.act, torch.nn.GELU)


def random_layout(network: Transformer) -> Tensors:
    shapes = {name: tensor.shape for name, tensor in random_state(network, 8, 24).items()}
    return {
        name: torch.empty([1024 // 8 * n if n in (8, 24, 32) else n for n in shape]) for name, shape in shapes.items()
    }


def test_files_of_other_programs_hold_the_same_network(tmp_path: Path) -> None:
    images = faces(2)
    torch.save(random_state(DINOV2), tmp_path / "dinov2_vitl14_pretrain.pth")
    ours = loaded(DINOV2, tmp_path)(images)
    np.testing.assert_array_equal(DINOV2.load(tmp_path / "dinov2_vitl14_pretrain.pth", CPU)(images), ours)
    ours = loaded(CLIP, tmp_path)(images)
    theirs = saved(as_open_clip(random_state(CLIP)), tmp_path / "open_clip.safetensors")
    np.testing.assert_array_equal(CLIP.load(theirs, CPU)(images), ours)


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    space, images, rows = loaded(DINOV2, tmp_path), faces(20), np.arange(20)
    one, first, second = (FeatureSets.empty([space]) for _ in range(3))
    one.update([space], rows, images)
    first.update([space], rows[::2], images[::2])
    second.update([space], rows[1::2], images[1::2])
    both = first.merge(second).sets["dinov2"]
    np.testing.assert_allclose(both.bank.ordered(), one.sets["dinov2"].bank.ordered(), atol=1e-5)
    real = FeatureSets.empty([space])
    real.update([space], rows, images.flip(1))
    distances = [frechet_distance(own.statistics, real.sets["dinov2"].statistics) for own in (both, one.sets["dinov2"])]
    assert distances[0] == pytest.approx(distances[1], rel=1e-4) and distances[1] > 0


def test_wrong_files_are_one_sentence(tmp_path: Path) -> None:
    state = random_state(DINOV2)
    broken = {
        "other": {"layer": torch.zeros(3)},
        "fewer": {name: tensor for name, tensor in state.items() if "blocks.1" not in name},
        "uneven": state | {"pos_embed": torch.zeros(1, 12, DIM)},
    }
    for name, tensors in broken.items():
        with pytest.raises(UserError, match="--file dinov2=FILE"):
            DINOV2.load(saved(tensors, tmp_path / name), CPU)
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(UserError, match="does not hold weights"):
        DINOV2.load(tmp_path / "junk", CPU)


def test_a_report_in_both_spaces_and_without_weights(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    entries = {entry.name: entry for entry in known_weights.known_weights()}
    saved(random_state(DINOV2), tmp_path / "given.safetensors")
    known_weights.take(replace(entries["dinov2"]), tmp_path / "given.safetensors")
    run = untrained_run(tmp_path / "run", tiny_dataset)
    report = eval.report(
        run,
        tiny_dataset,
        tmp_path / "out",
        spaces=["dinov2", "clip"],
        only=["distances:samples"],
        device="cpu",
        baselines=[],
    )
    measures = report.runs[0].measures
    value = measures["frechet_dinov2_samples"].value
    assert value is not None and value > 0 and "FD-DINOv2 features" in report.protocol
    assert measures["frechet_clip_samples"].reason == (
        "not computed: get the weights with: python -m eval.weights --fetch clip"
    )
    monkeypatch.setattr(transformers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'facegen\[perceptual\]'"):
        DINOV2.find()
