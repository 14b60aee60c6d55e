"""How well single latent dims represent single known factors: MIG, SAP and the FactorVAE score.

All use mu, and active dims only (``active_dims``). Floats are cut into bins of equal numbers of images, so the scale of
a dim or a factor does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics.latent_usage import ACTIVE_VARIANCE

NUM_BINS = 20
"""Bins of a dim and of a float factor for mutual information (as in Locatello et al. 2019)."""
NUM_FIXED_BINS = 10
"""Bins of a float factor that counts as fixed in the FactorVAE score."""
VOTE_SIZE = 64
NUM_VOTES = 1_000


@dataclass(frozen=True)
class KnownFactors:
    """The known factors of N images.

    Attributes:
        names: K names.
        values: float64 (N, K); a class is its index.
        is_class: bool (K,).
    """

    names: tuple[str, ...]
    values: np.ndarray
    is_class: np.ndarray

    def binned(self, num_bins: int) -> np.ndarray:
        """The class, or the bin of a float: int64 (N, K)."""
        columns = [
            np.unique(values, return_inverse=True)[1] if is_class else _bins(values, num_bins)
            for values, is_class in zip(self.values.T, self.is_class, strict=True)
        ]
        return np.stack(columns, axis=1)


def active_dims(mu: np.ndarray) -> np.ndarray:
    """Numbers of the active dims of mu (N, L), int64 (A,).

    An inactive dim may still follow a factor by a millionth of the prior's width. No decoder sees that through the
    posterior's noise, but scores that only look at the order of values would.
    """
    return np.flatnonzero(mu.astype(np.float64).var(axis=0) > ACTIVE_VARIANCE)


def mutual_information(latents: np.ndarray, factors: KnownFactors) -> np.ndarray:
    """Mutual information of every dim with every factor, in nats.

    The plug-in estimate on bins is too high by about ``bins^2 / 2N`` for every pair, which cancels in a gap.

    Args:
        latents: (N, L).
        factors: Of the same images.

    Returns:
        (L, K).
    """
    codes = np.stack([_bins(column, NUM_BINS) for column in latents.T], axis=1)
    binned = factors.binned(NUM_BINS)
    return np.array([[_information(code, factor) for factor in binned.T] for code in codes.T])


def mig(latents: np.ndarray, factors: KnownFactors) -> np.ndarray:
    """Mutual information gap of each factor, (K,) in [0, 1]; MIG is the mean (Chen et al. 2018).

    The information of the best dim less that of the second best, as a share of the factor's entropy.
    """
    entropies = np.array([_entropy(np.bincount(factor)) for factor in factors.binned(NUM_BINS).T])
    return _gap(mutual_information(latents, factors)) / entropies


def sap(latents: np.ndarray, factors: KnownFactors) -> np.ndarray:
    """Separated attribute predictability of each factor, (K,) in [0, 1]; SAP is the mean (Kumar et al. 2018).

    The share of a factor's variance that the best dim explains linearly, less that of the second best. For a class,
    where the paper trains a classifier, it is the share of the dim's variance that lies between classes.
    """
    scores = [
        [_between_share(column, factor) if is_class else _squared_correlation(column, factor) for column in latents.T]
        for factor, is_class in zip(factors.values.T, factors.is_class, strict=True)
    ]
    return _gap(np.array(scores).T)


def factor_vae_score(latents: np.ndarray, factors: KnownFactors, seed: int = 0) -> float:
    """Accuracy of predicting the fixed factor from the dim that varies least, in [0, 1] (Kim and Mnih 2018).

    A vote is ``VOTE_SIZE`` images that share the class or the bin of one factor. The classifier is the majority vote of
    each dim; it is tested on as many new votes.
    """
    random = np.random.default_rng(seed)
    scaled, binned = latents / latents.std(axis=0), factors.binned(NUM_FIXED_BINS)

    def votes() -> np.ndarray:
        """How often each dim varied least under each fixed factor, (L, K)."""
        counts = np.zeros((latents.shape[1], len(factors.names)), np.int64)
        for _ in range(NUM_VOTES):
            factor = random.integers(len(factors.names))
            value = binned[random.integers(len(binned)), factor]
            chosen = random.choice(np.flatnonzero(binned[:, factor] == value), VOTE_SIZE)
            counts[scaled[chosen].var(axis=0).argmin(), factor] += 1
        return counts

    majority = votes().argmax(axis=1)
    tested = votes()
    return float(tested[np.arange(len(majority)), majority].sum() / NUM_VOTES)


def _bins(values: np.ndarray, num_bins: int) -> np.ndarray:
    """The bin of each value, (N,) from 0: bins of equal numbers of values, equal values in one bin."""
    edges = np.quantile(values, np.linspace(0, 1, num_bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1]


def _information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information of two columns of bins, in nats."""
    joint = np.bincount(first * (second.max() + 1) + second)
    return _entropy(np.bincount(first)) + _entropy(np.bincount(second)) - _entropy(joint)


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _gap(scores: np.ndarray) -> np.ndarray:
    """The best score of each column of (L, K) less the second best, which is 0 for a single dim; (K,)."""
    ordered = np.sort(np.vstack([np.zeros((1, scores.shape[1])), scores]), axis=0)
    return ordered[-1] - ordered[-2]


def _squared_correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1] ** 2)


def _between_share(values: np.ndarray, classes: np.ndarray) -> float:
    """The correlation ratio: variance of the class means over the total variance."""
    positions = np.unique(classes, return_inverse=True)[1]
    counts = np.bincount(positions)
    means = np.bincount(positions, weights=values) / counts
    return float((counts * (means - values.mean()) ** 2).sum() / len(values) / values.var())
