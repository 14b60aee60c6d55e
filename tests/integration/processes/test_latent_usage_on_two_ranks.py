"""Latent usage during training, measured by two processes that share the images, and after a stop in its middle."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import torch

from facegen.latents.latent_history import read_latent_history
from facegen.losses.vae import kl_per_dim
from facegen.model import load
from facegen.pixels import to_float
from facegen.runs.checkpoint import newest_complete
from launching import DISTURBED, TRAIN, environment, launch, run
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches


def test_two_ranks_measure_what_one_process_finds_and_stop_together(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset, epoch_size = Dataset(tiny_dataset), Dataset(tiny_dataset).num_samples("train") // 16 * 16
    # An odd number of batches of 8: the second rank has one fewer. Batch norm's averages differ between the ranks.
    options = ["vae", "--data", tiny_dataset, "--run", tmp_path, "--global_batch_size", 16, "--max_epochs", 2.25]
    options += ["--model.network.widths", "[8,16]", "--model.latent_size", 8, "--monitor.num_validation_images", 20]
    options += ["--checkpoint.every_images", epoch_size, "--checkpoint.keep", 3]
    command = launch(2, DISTURBED, "SIGTERM", "1", "evaluation", str(2 * epoch_size), *options)
    subprocess.run(command, env=environment(), capture_output=True, timeout=300)  # Ends by itself: no rank hangs.
    newest = newest_complete(tmp_path / "checkpoints")
    assert newest is not None and newest.name == f"images_{2 * epoch_size:012d}"
    stopped = read_latent_history(tmp_path)
    assert stopped is not None and stopped.epochs.tolist() == [1]
    run(launch(2, TRAIN, *options))
    history = read_latent_history(tmp_path)
    assert history is not None
    assert history.epochs.tolist() == [1, 2.25]
    np.testing.assert_array_equal(history.variance[0], stopped.variance[0])
    assert (history.split, history.count.tolist()) == ("val", [20, 20])

    (batch,) = evaluation_batches(dataset, "val", 20, limit=20)
    # Epoch 1 had its own pass; at the end, validation's is reused.
    for row, images_seen in enumerate(history.images_seen):
        model = load(tmp_path / "snapshots" / f"images_{images_seen:012d}")
        mu, logvar = model.posterior(to_float(batch.images), batch.labels)
        assert logvar is not None and history.kl is not None
        np.testing.assert_allclose(history.mean[row], torch.mean(mu.double(), 0), atol=1e-6)
        np.testing.assert_allclose(history.variance[row], np.var(mu.double().numpy(), axis=0), atol=1e-6)
        np.testing.assert_allclose(history.kl[row], kl_per_dim(mu, logvar).mean(0), atol=1e-6)
