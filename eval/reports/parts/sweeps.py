"""Sweeps: a face along single latent dims, and along principal components."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.latent.axes import Axes, active_dims, latent_axes
from eval.latent.encode import encode_split
from eval.latent.pca import fit_pca
from eval.latent.picture_axes import MAX_LATENTS, main_axes
from eval.latent.tools.traverse import COMPONENT_SPAN, DIM_SPAN, NUM_AXES, NUM_STEPS, sweep_faces, sweep_grid
from eval.reports.part import Absent, Drawing, Part, RunPicture
from eval.reports.run_context import RunContext
from eval.reports.statistic import LATENTS, USAGE


def axis_sweep(run: RunContext) -> Drawing:
    """The most active dims and the least active one."""
    usage = run[USAGE]
    has_prior = usage.kl is not None
    axes = latent_axes(run[LATENTS], active_dims(usage.variance, NUM_AXES), in_prior_units=has_prior)
    unit = "the prior's standard deviations" if has_prior else "standard deviations of mu"
    caption = f"One face, one latent dim at a time set to −1.2 … +1.2 {unit}; the last row is the least active dim."
    return Drawing(_swept(run, axes, DIM_SPAN), caption)


def component_sweep(run: RunContext) -> Drawing | Absent:
    """Principal components of mu, the one that explains most first; or directions that change the picture more."""
    protocol = run.protocol
    if "train" not in protocol.dataset.splits:
        return Absent(f"data set {protocol.dataset.address} has no training split to find components in")
    latents = encode_split(run.model, protocol.dataset, "train", limit=protocol.num_train)
    pca = fit_pca(latents) if latents.shape[1] <= MAX_LATENTS else fit_pca(latents, NUM_AXES)
    axes, are_directions = main_axes(run.model, pca, range(min(NUM_AXES, len(pca.variances))))
    what = "principal components of mu, which explain most of its variance"
    if are_directions:
        what = "directions that change the picture most; principal components change it less"
    caption = (
        f"The same face along {what}, −3 … +3 of the standard deviations of {len(latents):,} training images around "
        "their mean; at the left the share of each."
    )
    return Drawing(_swept(run, axes, COMPONENT_SPAN), caption)


def _swept(run: RunContext, axes: Axes, span: float) -> Image.Image:
    steps = np.linspace(-span, span, NUM_STEPS)
    return sweep_grid(sweep_faces(run.model, run.faces(1), axes, steps), axes, steps)


PARTS = [
    Part(
        name="sweeps",
        content="sweeps of single latent dims",
        needs=("encode", "decode"),
        statistics=(USAGE, LATENTS),
        group="Latent space",
        pictures=(RunPicture("sweeps.png", "Axis sweeps", axis_sweep),),
    ),
    Part(
        name="pca",
        content="sweeps of principal components",
        needs=("encode", "decode"),
        group="Latent space",
        pictures=(RunPicture("pca_sweeps.png", "Sweeps of principal components", component_sweep),),
    ),
]
