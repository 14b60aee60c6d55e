"""Means of a training's terms over any number of steps and parts."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from facegen.optimization.averages import Averages, means_of


@pytest.mark.parametrize("num_added", [1, 63, 64, 65, 200])
def test_all_additions_have_equal_weight(num_added: int) -> None:
    scalars = torch.arange(num_added, dtype=torch.float32) ** 2
    vectors = torch.randn(num_added, 3, generator=torch.Generator().manual_seed(0))
    averages, accelerator = Averages(), Accelerator(cpu=True)
    for scalar, vector in zip(scalars, vectors, strict=True):
        averages.add({"loss": scalar, "kl_per_dim": vector})
    means = averages.read(accelerator)
    assert list(means) == ["loss", "kl_per_dim"]
    torch.testing.assert_close(means["loss"], scalars.mean())
    torch.testing.assert_close(means["kl_per_dim"], vectors.mean(0))


def test_reading_resets_the_means() -> None:
    averages, accelerator = Averages(), Accelerator(cpu=True)
    averages.add({"loss": torch.tensor(3.0)})
    averages.read(accelerator)
    assert averages.read(accelerator) == {}
    averages.add({"kl": torch.tensor(5.0)})
    assert averages.read(accelerator) == {"kl": torch.tensor(5.0)}


def test_parts_of_a_batch_have_equal_weight() -> None:
    parts = [{"loss": torch.tensor(value), "kl_per_dim": torch.tensor([value, 0.0])} for value in (1.0, 2.0, 6.0)]
    means = means_of(parts)
    assert means["loss"] == 3 and means["kl_per_dim"].tolist() == [3, 0]
    assert means_of(parts[:1]) == parts[0]
