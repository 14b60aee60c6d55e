"""Labels given to a loaded model: what it would ignore is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facegen.fit_sampler import encode
from facegen.model import Model, load
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset
from shards.loading.batch import Batch
from shards.loading.loader import evaluation_batches
from tiny_runs import untrained_run


@pytest.fixture(scope="module")
def conditional(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(untrained_run(tmp_path_factory.mktemp("runs") / "cvae", tiny_dataset, "cvae"))


@pytest.fixture(scope="module")
def plain(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(untrained_run(tmp_path_factory.mktemp("runs") / "vae", tiny_dataset))


@pytest.fixture(scope="module")
def batch(tiny_dataset: Path) -> Batch:
    return next(iter(evaluation_batches(Dataset(tiny_dataset), "val", 4)))


@pytest.mark.parametrize("labels", [{"Smiling": [1.0] * 4}, {"smile": [1.0] * 4, "Male": [1] * 4}])
def test_a_label_that_is_not_the_condition_is_refused(conditional: Model, labels: dict[str, Any]) -> None:
    for generate in (
        lambda: conditional.sample(4, labels=labels),
        lambda: conditional.decode(np.zeros((4, conditional.latent_size), np.float32), labels),
    ):
        with pytest.raises(UserError, match="reads the label 'smile', not '(Smiling|Male)'"):
            generate()


def test_a_model_without_a_condition_generates_by_no_label(plain: Model) -> None:
    with pytest.raises(UserError, match="not conditional and reads no label; leave out 'smile', 'age'"):
        plain.sample(2, labels={"smile": [1.0, 1.0], "age": [3.0, 3.0]})
    with pytest.raises(UserError, match="leave out 'smile'"):
        plain.decode(torch.zeros(1, plain.latent_size or 0), {"smile": [1.0]})


def test_a_batchs_own_labels_go_with_its_images(conditional: Model, plain: Model, batch: Batch) -> None:
    images = batch.images.numpy()
    alone = {"smile": batch.labels["smile"]}
    assert len(batch.labels) > 1
    np.testing.assert_array_equal(conditional.encode(images, batch.labels), conditional.encode(images, alone))
    np.testing.assert_array_equal(conditional.reconstruct(images, batch.labels), conditional.reconstruct(images, alone))
    np.testing.assert_array_equal(plain.encode(images, batch.labels), plain.encode(images))
    with pytest.raises(UserError, match="reads the label 'smile', not 'Smiling'"):
        conditional.encode(images, {"Smiling": batch.labels["Smiling"]})


def test_a_sampler_is_fitted_to_data_without_the_label(tiny_dataset: Path, tmp_path: Path) -> None:
    # Its degrees are unknown, as always.
    model = load(untrained_run(tmp_path / "run", tiny_dataset, "cvae", label="grin"))
    assert model.condition == "grin"
    assert len(encode(model, Dataset(tiny_dataset), 4, 4).mu) == 4
