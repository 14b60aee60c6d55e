"""Every picture that a run can have, in the order in which the report shows them."""

from __future__ import annotations

from eval.reports.pictures import edits, latent, samples, sweeps
from eval.reports.pictures import progress as training
from eval.reports.pictures.base import PictureMaker

_BOTH = ("encode", "decode")

RUN_PICTURES = (
    PictureMaker("samples", "samples.png", "Samples", samples.sample_grid, ("sample",)),
    PictureMaker("samples", "samples_by_std.png", "Samples by standard deviation", samples.std_grid, ("sample",)),
    PictureMaker(
        "neighbors", "neighbors.png", "Samples and their nearest training faces", samples.neighbor_grid, ("sample",)
    ),
    PictureMaker("degrees", "degrees.png", "Degree sweep", sweeps.degree_picture, _BOTH, is_conditional=True),
    PictureMaker(
        "degrees", "degrees_extended.png", "Extended degree sweep", sweeps.extended_picture, _BOTH, is_conditional=True
    ),
    PictureMaker("degrees", "degrees_forced.png", "Forced degrees", sweeps.forced_picture, _BOTH, is_conditional=True),
    PictureMaker("attributes", "attributes.png", "Attribute edits", edits.attribute_picture, _BOTH),
    PictureMaker("morphs", "morphs.png", "Morphs", edits.morph_picture, _BOTH),
    PictureMaker("sweeps", "sweeps.png", "Axis sweeps", sweeps.axis_sweep, _BOTH),
    PictureMaker("pca", "pca_sweeps.png", "Sweeps of principal components", sweeps.component_sweep, _BOTH),
    PictureMaker("latent", "latent_variance.svg", "Latent variance", latent.variance_chart, ("encode",)),
    PictureMaker("latent", "latent_histograms.svg", "Latent histograms", latent.histogram_chart, ("encode",)),
    PictureMaker("tsne", "tsne.png", "Map of the latents", latent.map_picture, ("encode",)),
    PictureMaker("heatmap", "latent_heatmap.svg", "Latent usage over training", training.heatmap, ("encode",)),
    PictureMaker(
        "animation",
        "training_reconstructions.webp",
        "Reconstructions over training",
        training.reconstruction_animation,
        _BOTH,
    ),
    PictureMaker("animation", "training_samples.webp", "Samples over training", training.sample_animation, ("sample",)),
)
"""Files are named after the run and this."""
