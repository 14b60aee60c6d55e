"""The parts of a report, which ``--only`` and ``--skip`` choose from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

PARTS = {
    "reconstruction": "MSE, PSNR and SSIM, and originals beside reconstructions",
    "distances:samples": "distances of samples from the split",
    "distances:reconstructions": "distances of reconstructions from the split",
    "likelihood": "KL, ELBO and bits per dim",
    "latent": "usage of the latent dims, its charts and histograms",
    "disentanglement": "MIG, DCI, SAP and the FactorVAE score where all factors are known",
    "cost": "parameters, FLOPs, speed and size",
    "verification": "pairs of one person told from pairs of two, and the ROC",
    "bias": "gender and smile in the data and in samples",
    "curves": "training curves",
    "heatmap": "latent usage over the epochs of training",
    "animation": "the pictures of training as an animation",
    "samples": "samples, also at other standard deviations",
    "neighbors": "the training faces nearest to samples",
    "degrees": "degree sweeps and forced degrees of conditional models",
    "sweeps": "sweeps of single latent dims",
    "pca": "sweeps of principal components",
    "tsne": "a map of the latents",
    "attributes": "attributes added and taken away",
    "morphs": "faces on the way from one to another",
}
"""Name and content of each; ``distances`` alone means both that begin so."""

PICTURE_GROUPS = {
    "Samples": ("samples", "neighbors"),
    "Edits": ("degrees", "attributes", "morphs"),
    "Latent space": ("sweeps", "pca", "latent", "tsne", "heatmap"),
    "Training": ("animation",),
    "Bias": ("bias",),
}
"""What a run's pictures are folded together under, and the parts that they are of."""

ALL_PARTS = frozenset(PARTS)
SKIPPED = "skipped"
"""The reason of a number that was not asked for."""

SPLIT_PARTS = frozenset(
    {"reconstruction", "distances:reconstructions", "likelihood", "latent", "disentanglement", "sweeps", "tsne"}
)
"""What needs the evaluated images to go through encoder and decoder."""
SAMPLE_PARTS = frozenset({"distances:samples", "neighbors"})
"""What needs samples as features."""
DISTANCE_PARTS = frozenset({"distances:samples", "distances:reconstructions"})
REFERENCE_PARTS = DISTANCE_PARTS | {"neighbors"}
"""What needs the features of the evaluated images."""
FEATURE_PARTS = REFERENCE_PARTS | {"bias"}
"""What needs features of images."""


def choose_parts(only: Sequence[str], skip: Sequence[str]) -> frozenset[str]:
    """The parts to do: those of ``only``, or all where it is empty, less those of ``skip``.

    Raises:
        ValueError: An unknown name, or nothing left.
    """
    chosen = (_named("only", only) if only else ALL_PARTS) - _named("skip", skip)
    if not chosen:
        raise ValueError("--only and --skip leave no part of the report; skip less.")
    return chosen


def describe_parts() -> str:
    """All names with what they are, for ``--help``."""
    return "; ".join(f"{name} ({content})" for name, content in PARTS.items())


def _named(option: str, names: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        meant = {part for part in PARTS if part == name or part.startswith(f"{name}:")}
        if not meant:
            nearest = difflib.get_close_matches(name, [*PARTS, "distances"], n=1, cutoff=0.5)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(PARTS)}."
            raise ValueError(f"--{option}: a report has no part '{name}'; {hint}")
        found |= meant
    return frozenset(found)


def group_of(part: str) -> str:
    """What the pictures of a part are folded together under."""
    return next(group for group, parts in PICTURE_GROUPS.items() if part in parts)
