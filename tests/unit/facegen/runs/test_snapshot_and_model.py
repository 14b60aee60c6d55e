"""``facegen.model.load``, the loaded model, and its snapshots."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facegen.config import config_class
from facegen.families import FAMILIES
from facegen.model import Model, load
from facegen.networks.conv_config import ConvNetConfig
from facegen.options import EMAConfig, LoaderConfig, MonitorConfig, OptimConfig
from facegen.pixels import to_float, to_uint8
from facegen.runs.checkpoint import write_complete
from facegen.runs.snapshot import DESCRIPTION, find_snapshot, read_description
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches


@pytest.fixture(scope="module", params=["vae", "ae"])
def run(request: pytest.FixtureRequest, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with a moving average, of a family that samples and of one that does not."""
    return _train(request.param, tiny_dataset, tmp_path_factory.mktemp("runs") / request.param, half_life=20)


@pytest.fixture(scope="module")
def vae_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train("vae", tiny_dataset, tmp_path_factory.mktemp("runs") / "plain", half_life=0)


def _train(family: str, data: Path, run: Path, half_life: int) -> Path:
    network = ConvNetConfig(widths=[4, 8])
    config = config_class(family)(
        data=str(data),
        run=str(run),
        global_batch_size=32,
        max_steps=4,
        optim=OptimConfig(lr=0.01, warmup_images=0),
        ema=EMAConfig(half_life),
        loader=LoaderConfig(num_threads=0),
        monitor=MonitorConfig(num_validation_images=8),
        model=FAMILIES[family].config_class(latent_size=6, network=network),
    )
    Trainer(config).fit()
    gc.collect()
    return run


@pytest.fixture(scope="module")
def images(tiny_dataset: Path) -> np.ndarray:
    return next(iter(evaluation_batches(Dataset(tiny_dataset), "val", 12))).images.numpy()


def test_the_loaded_model_is_the_trained_one(run: Path, images: np.ndarray) -> None:
    model = load(run)
    config = model.config
    assert (model.name, model.family, model.weights) == (run.name, run.name, "ema")
    assert (model.images_seen, model.step, model.latent_size) == (128, 4, 6)
    assert tuple(model.image_shape) == (3, 16, 16)
    assert model.run_dir == run
    assert model.dataset_fingerprint == Dataset(config["data"]).fingerprint
    assert model.num_parameters == sum(parameter.numel() for parameter in model.network.parameters())
    assert model.snapshot_bytes == (find_snapshot(run) / "ema.safetensors").stat().st_size
    assert (model.decoder_variance is None) == (model.family == "ae")
    assert not any(module.training for module in model.network.modules())
    assert model.encode(images).shape == (12, 6)


def test_weights_can_be_chosen(run: Path, vae_run: Path, images: np.ndarray) -> None:
    averaged, raw = load(run, weights="ema"), load(run, weights="raw")
    assert raw.weights == "raw"
    assert not np.allclose(averaged.encode(images), raw.encode(images))
    assert load(vae_run).weights == "raw"
    with pytest.raises(UserError, match="has no ema weights; it has raw"):
        load(vae_run, weights="ema")


def test_numpy_and_torch_agree(run: Path, images: np.ndarray) -> None:
    model = load(run)
    floats = to_float(torch.from_numpy(images))
    latents, latents_of_floats = model.encode(images), model.encode(floats)
    assert isinstance(latents, np.ndarray) and latents.dtype == np.float32
    assert isinstance(latents_of_floats, torch.Tensor)
    np.testing.assert_allclose(latents, latents_of_floats.numpy(), atol=1e-6)
    decoded, decoded_floats = model.decode(latents), model.decode(latents_of_floats)
    assert isinstance(decoded, np.ndarray) and decoded.dtype == np.uint8 and decoded.shape == images.shape
    assert decoded_floats.shape == floats.shape
    assert decoded_floats.abs().max() <= 1
    np.testing.assert_array_equal(decoded, to_uint8(decoded_floats).numpy())
    np.testing.assert_array_equal(model.reconstruct(images), decoded)
    torch.testing.assert_close(model.reconstruct(floats), decoded_floats)


def test_the_posterior_has_a_log_variance_unless_it_is_deterministic(run: Path, images: np.ndarray) -> None:
    model = load(run)
    mu, logvar = model.posterior(images)
    np.testing.assert_array_equal(mu, model.encode(images))
    np.testing.assert_array_equal(mu, model.encode(images))  # A sample would differ.
    assert (logvar is None) == (model.family == "ae")
    assert logvar is None or (isinstance(logvar, np.ndarray) and logvar.shape == mu.shape)


def test_the_input_is_not_changed(run: Path, images: np.ndarray) -> None:
    before = images.copy()
    load(run).reconstruct(images)
    np.testing.assert_array_equal(images, before)


@pytest.fixture(scope="module")
def vae(vae_run: Path) -> Model:
    return load(vae_run)


def test_a_sample_depends_on_its_number_and_the_seed_alone(vae: Model) -> None:
    many = vae.sample(10, seed=3)
    assert many.shape == (10, 3, 16, 16)
    assert many.abs().max() <= 1
    torch.testing.assert_close(vae.sample(4, seed=3), many[:4], rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.sample(3, seed=3, first=5), many[5:8], rtol=0, atol=1e-5)
    assert torch.equal(vae.prior(3, seed=3, first=5), vae.prior(10, seed=3)[5:8])
    assert not torch.isin(vae.prior(10, seed=4), vae.prior(10, seed=3)).any()
    assert len(vae.prior(10).unique()) == 60


def test_the_prior_is_standard_normal_and_std_scales_it(vae: Model) -> None:
    latents = vae.prior(3000)
    assert latents.mean().item() == pytest.approx(0, abs=0.03)
    assert latents.var().item() == pytest.approx(1, abs=0.04)
    torch.testing.assert_close(vae.sample(2, std=0.0), vae.decode(torch.zeros(2, 6)))
    torch.testing.assert_close(vae.sample(2, std=0.5), vae.decode(0.5 * vae.prior(2)))


def test_an_autoencoder_without_prior_does_not_sample(run: Path) -> None:
    model = load(run)
    if "sample" in model.can:
        pytest.skip("this one samples")
    with pytest.raises(UserError, match="models of the family ae cannot sample; they can decode, encode"):
        model.sample(1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 32, 32, 3), np.uint8),
        np.zeros((2, 16, 16, 1), np.uint8),
        torch.zeros(2, 1, 16, 16),
        torch.zeros(3, 16, 16),
    ],
)
def test_images_of_another_shape(vae: Model, wrong: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(UserError, match="takes images of 3x16x16"):
        vae.encode(wrong)  # type: ignore[type-var]


@pytest.mark.parametrize("wrong", [np.zeros((2, 16, 16, 3)), np.zeros((16, 16, 3), np.uint8)])
def test_numpy_images_are_bytes(vae: Model, wrong: np.ndarray) -> None:
    # Floats in [0, 1] taken for bytes would all be black, silently.
    with pytest.raises(UserError, match="numpy images must be uint8, N x H x W x C"):
        vae.reconstruct(wrong)


@pytest.mark.parametrize("wrong", [[[1, 2]], torch.zeros(2, 3, 16, 16, dtype=torch.uint8)])
def test_images_of_another_form(vae: Model, wrong: Any) -> None:
    with pytest.raises(UserError, match="images must be a numpy array of bytes, .*or a torch tensor of floats"):
        vae.encode(wrong)


@pytest.mark.parametrize("options", [{"first": -1}, {"std": -1.0}, {"std": float("nan")}])
def test_impossible_samples(vae: Model, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="first and std must be 0 or more"):
        vae.sample(2, **options)


@pytest.mark.parametrize("device", ["banana", "mps", "xpu:3", torch.device("hpu")])
def test_a_device_that_is_not_there(vae_run: Path, device: Any) -> None:
    # torch raises an AssertionError, a RuntimeError or a NotImplementedError, by backend.
    with pytest.raises(UserError, match="device '.*' cannot be used .*; give another one, such as cpu"):
        load(vae_run, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_cuda_device(vae_run: Path) -> None:
    with pytest.raises(UserError, match="device 'cuda' cannot be used"):
        load(str(vae_run), device="cuda")


def test_a_snapshot_that_was_moved_still_loads(vae_run: Path, tmp_path: Path, images: np.ndarray) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(find_snapshot(vae_run), moved)
    model = load(moved)
    assert model.run_dir is None
    np.testing.assert_array_equal(model.encode(images), load(vae_run).encode(images))


def test_the_newest_undamaged_snapshot_is_taken(vae_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(vae_run, run)
    good = find_snapshot(run)
    newer = good.with_name("images_000000999999")
    shutil.copytree(good, newer)
    assert find_snapshot(run) == newer
    (newer / "raw.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="is skipped: its file raw.safetensors is damaged"):
        assert find_snapshot(run) == good


def test_a_missing_snapshot(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="has no complete snapshot"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"name": "x", "surprise": 1}', "[1]"])
def test_an_invalid_description(tmp_path: Path, content: str) -> None:
    snapshot = tmp_path / "snapshot"
    write_complete(snapshot, lambda directory: (directory / DESCRIPTION).write_text(content) and None)
    with pytest.raises(UserError, match="snapshot.json.*; give another snapshot"):
        load(snapshot)


def test_a_damaged_snapshot_given_by_its_own_path(vae_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(find_snapshot(vae_run), moved)
    (moved / "raw.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="is damaged: its file raw.safetensors is damaged"):
        load(moved)


def test_the_description_names_versions_labels_and_data(vae_run: Path, tiny_dataset: Path) -> None:
    description = read_description(find_snapshot(vae_run))
    dataset = Dataset(tiny_dataset)
    assert set(description.label_fields) == set(dataset.fields)
    assert description.dataset_name == dataset.manifest.name
    assert description.versions["torch"] == torch.__version__
    assert description.epoch == pytest.approx(128 / 192)
    assert json.loads((find_snapshot(vae_run) / DESCRIPTION).read_text())["config"]["model"]["latent_size"] == 6


def test_impossible_numbers_and_latents(vae: Model) -> None:
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        vae.sample(0)
    with pytest.raises(UserError, match=r"decodes latents of N x 6, not of \[2, 5\]"):
        vae.decode(torch.zeros(2, 5))
