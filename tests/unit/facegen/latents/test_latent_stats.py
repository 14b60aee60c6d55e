"""Moments of latents, compared with numpy over all values at once, for any batches and processes."""

from __future__ import annotations

from functools import reduce
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from facegen.latents.latent_stats import LatentStats


class Group:
    """The part of an accelerator that ``over_processes`` uses, for the first of several simulated processes."""

    device = torch.device("cpu")

    def __init__(self, others: list[LatentStats]) -> None:
        self.others = others
        self.num_processes = 1 + len(others)

    def gather(self, tensor: Tensor) -> Tensor:
        sent: list[Tensor] = [tensor]
        for stats in self.others:
            stats.over_processes(cast(Accelerator, _Recorder(sent)))
        return torch.cat(sent)


class _Recorder:
    device = torch.device("cpu")
    num_processes = 2

    def __init__(self, sent: list[Tensor]) -> None:
        self.sent = sent

    def gather(self, tensor: Tensor) -> Tensor:
        self.sent.append(tensor)
        return tensor


def latents(num: int = 503) -> tuple[np.ndarray, np.ndarray]:
    """Means far from 0 relative to their deviation, where a naive mean of squares loses all digits."""
    random = np.random.default_rng(0)
    scale, offset = np.array([1, 0.05, 3, 1e-3, 1]), np.array([0, 1e4, -1, 100, 0])
    return random.normal(size=(num, 5)) * scale + offset, random.normal(-1, 0.3, size=(num, 5))


def accumulate(mu: np.ndarray, logvar: np.ndarray | None, num_processes: int, covariances: bool) -> list[LatentStats]:
    stats = [LatentStats.empty(mu.shape[1], covariances) for _ in range(num_processes)]
    for number, rows in enumerate(np.array_split(np.arange(len(mu)), 7)):
        part = None if logvar is None else torch.from_numpy(logvar[rows])
        stats[number % num_processes].update(torch.from_numpy(mu[rows]), part)
    return stats


@pytest.mark.parametrize("covariances", [False, True])
@pytest.mark.parametrize("num_processes", [1, 2, 5, 9])  # Of nine processes, the last two get no batch.
def test_moments_equal_numpys_for_any_number_of_processes(num_processes: int, covariances: bool) -> None:
    mu, logvar = latents()
    first, *others = accumulate(mu, logvar, num_processes, covariances)
    merged = first.over_processes(cast(Accelerator, Group(others)))
    assert merged.count == len(mu)
    np.testing.assert_allclose(merged.mean, mu.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(merged.variance, np.var(mu, axis=0, ddof=0), rtol=1e-9)
    expected_kl = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)
    assert merged.kl is not None
    np.testing.assert_allclose(merged.kl, expected_kl.mean(axis=0), rtol=1e-12)
    if covariances:
        np.testing.assert_allclose(merged.covariance, np.cov(mu, rowvar=False, ddof=0), rtol=1e-6, atol=1e-9)


def test_processes_send_moments_and_no_latents() -> None:
    sent: list[Tensor] = []
    (stats,) = accumulate(*latents(), 1, False)
    stats.over_processes(cast(Accelerator, _Recorder(sent)))
    assert [tensor.numel() for tensor in sent] == [2 + 3 * 5]


def test_merging_is_the_same_in_any_order() -> None:
    stats = accumulate(*latents(), 4, False)
    forth, back = reduce(LatentStats.merge, stats), reduce(LatentStats.merge, reversed(stats))
    torch.testing.assert_close(forth.variance, back.variance, rtol=1e-12, atol=0)


def test_a_deterministic_encoder_has_no_kl() -> None:
    mu, _ = latents()
    first, second = accumulate(mu, None, 2, False)
    assert first.merge(second).kl is None


def test_low_precision_latents_are_summed_in_float64() -> None:
    mu = torch.full((3000, 1), 0.1, dtype=torch.bfloat16)
    stats = LatentStats.empty(1)
    for part in mu.split(7):
        stats.update(part, torch.zeros_like(part))
    assert stats.mean.item() == pytest.approx(mu[0].item(), rel=1e-12)
    assert stats.variance.item() == pytest.approx(0, abs=1e-20)
    assert stats.kl is not None and stats.kl.item() == pytest.approx(mu[0].item() ** 2 / 2, rel=1e-12)
