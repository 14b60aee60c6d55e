"""Faces with attributes added and taken away, and on the way to other faces."""

from __future__ import annotations

import numpy as np

from eval.drawing.frames import beside_originals, signed
from eval.latent.attribute_vectors import fit_attributes
from eval.latent.chosen_attributes import choose_attributes
from eval.latent.encode import encode_split
from eval.latent.tools.attributes import STRENGTHS, edit_faces
from eval.latent.tools.morph import NUM_STEPS, morph_faces, morph_grid
from eval.reports.part import Absent, Drawing, Part, RunPicture
from eval.reports.parts.identity import identity_note
from eval.reports.run_context import RunContext

_NUM_EDITED, _NUM_MORPHED = 2, 4


def attribute_picture(run: RunContext) -> Drawing | Absent:
    """Some faces with each of some attributes at every strength."""
    model, protocol = run.model, run.protocol
    dataset = protocol.dataset
    if "train" not in dataset.splits:
        return Absent(f"data set {dataset.address} has no training split to fit attributes on")
    groups = choose_attributes(dataset, "train", protocol.num_train)
    if not groups:
        return Absent(
            "the data set has no bool or degree label; fit vectors on one that has, framed alike, with: "
            "python -m eval.attributes fit, then apply"
        )
    latents = encode_split(model, dataset, "train", limit=protocol.num_train)
    attributes = fit_attributes(latents, groups)
    faces = run.faces(_NUM_EDITED)
    strengths = sorted({0.0, *STRENGTHS})
    edited = np.concatenate([edit_faces(model, faces, vector, strengths) for vector in attributes.vectors])
    originals = np.concatenate([faces.images] * len(attributes.names))
    names = [name for name in attributes.names for _ in faces.names]
    counts = ", ".join(
        f"{name} ({present:,} with, {absent:,} without)"
        for name, present, absent in zip(attributes.names, attributes.num_present, attributes.num_absent, strict=True)
    )
    caption = (
        f"Held-out faces moved along the difference of means of mu of {len(latents):,} training images: {counts}. "
        "A strength of 1 is the way from one mean to the other; 0 is the reconstruction."
    )
    columns = [signed(strength) for strength in strengths]
    caption += identity_note(run, originals, edited, columns)
    return Drawing(beside_originals(originals, edited, columns, names), caption)


def morph_picture(run: RunContext) -> Drawing | Absent:
    """Faces turning into others, along the line and along the great circle."""
    faces = run.faces(_NUM_MORPHED)
    if len(faces.images) < 2:
        return Absent("a morph needs at least 2 images")
    caption = f"From each held-out face to the next in {NUM_STEPS} steps, both reconstructions included."
    morphed = morph_faces(run.model, faces)
    for kind, images in morphed.items():
        steps = [f"step {step}" for step in range(1, NUM_STEPS + 1)]
        caption += identity_note(run, faces.images[:-1], images, steps, f"the first face ({kind})")
    return Drawing(morph_grid(faces.images, morphed), caption)


PARTS = [
    Part(
        name="attributes",
        content="attributes added and taken away",
        needs=("encode", "decode"),
        group="Edits",
        pictures=(RunPicture("attributes.png", "Attribute edits", attribute_picture),),
    ),
    Part(
        name="morphs",
        content="faces on the way from one to another",
        needs=("encode", "decode"),
        group="Edits",
        pictures=(RunPicture("morphs.png", "Morphs", morph_picture),),
    ),
]
