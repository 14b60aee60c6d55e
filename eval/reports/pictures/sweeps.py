"""Sweeps: faces along single latent dims, principal components, and degrees of a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from eval.drawing.frames import beside_originals, signed
from eval.latent.axes import Axes, active_dims, component_axes, latent_axes
from eval.latent.conditions import degree_text
from eval.latent.encode import encode_split
from eval.latent.faces import Faces
from eval.latent.pca import fit_pca
from eval.latent.tools.smile import EXTENDED_SWEEP, FORCED_LABELS, SWEEP, degree_sweep, forced
from eval.latent.tools.traverse import COMPONENT_SPAN, DIM_SPAN, NUM_AXES, NUM_STEPS, sweep_faces, sweep_grid
from eval.reports.pictures.base import Absent, Context, Drawing

_NUM_DEGREE_FACES = 4


def axis_sweep(model: Any, context: Context) -> Drawing:
    """The most active dims and the least active one."""
    assert context.usage is not None and context.latents is not None
    has_prior = context.usage.kl is not None
    dims = active_dims(context.usage.variance, NUM_AXES)
    axes = latent_axes(context.latents, dims, in_prior_units=has_prior)
    unit = "the prior's standard deviations" if has_prior else "standard deviations of mu"
    caption = f"One face, one latent dim at a time set to −1.2 … +1.2 {unit}; the last row is the least active dim."
    return Drawing(_sweep(model, context, axes, DIM_SPAN), caption)


def component_sweep(model: Any, context: Context) -> Drawing | Absent:
    """Principal components of mu, the one that explains most first."""
    protocol = context.protocol
    if "train" not in protocol.dataset.splits:
        return Absent(f"data set {protocol.dataset.address} has no training split to find components in")
    latents = encode_split(model, protocol.dataset, "train", limit=protocol.num_train)
    pca = fit_pca(latents, NUM_AXES)
    axes = component_axes(pca, range(len(pca.variances)))
    caption = (
        f"The same face along principal components of mu of {len(latents):,} training images, −3 … +3 of their "
        "standard deviations around the mean; at the left the share of the variance that each explains."
    )
    return Drawing(_sweep(model, context, axes, COMPONENT_SPAN), caption)


def _sweep(model: Any, context: Context, axes: Axes, span: float) -> Image.Image:
    steps = np.linspace(-span, span, NUM_STEPS)
    return sweep_grid(sweep_faces(model, context.faces(model, 1), axes, steps), axes, steps)


def degree_picture(model: Any, context: Context) -> Drawing:
    """Faces at every degree of training."""
    caption = f"Held-out faces, encoded once and decoded at each degree of {model.condition} from −1 to 1."
    return _degrees(model, context, SWEEP, caption)


def extended_picture(model: Any, context: Context) -> Drawing:
    """Faces at degrees far beyond those of training."""
    low, high = model.condition_range
    caption = f"The same from −3 to 3; training images had degrees from {signed(low)} to {signed(high)}."
    return _degrees(model, context, EXTENDED_SWEEP, caption)


def _degrees(model: Any, context: Context, degrees: Sequence[float] | np.ndarray, caption: str) -> Drawing:
    faces = context.faces(model, _NUM_DEGREE_FACES)
    images = degree_sweep(model, faces.encode(model), degrees)
    names = [degree_text(degree) for degree in faces.degrees]
    columns = [signed(degree) for degree in degrees]
    return Drawing(beside_originals(faces.images, images, columns, names), f"{caption} At the left: the own degree.")


def forced_picture(model: Any, context: Context) -> Drawing | Absent:
    """Faces encoded with their own degree and decoded with another."""
    faces = context.faces(model)
    known = np.flatnonzero(~np.isnan(faces.degrees))[:_NUM_DEGREE_FACES]
    if not len(known):
        return Absent(f"the degree of {model.condition} of these images is not known; give data with that label")
    chosen = Faces(faces.images[known], tuple(faces.names[face] for face in known), faces.degrees[known])
    names = [degree_text(degree) for degree in chosen.degrees]
    caption = f"Encoded with the own degree of {model.condition}, at the left, and decoded with it shifted."
    return Drawing(beside_originals(chosen.images, forced(model, chosen), FORCED_LABELS, names), caption)
