"""Photos and data sets framed as a model's training images are: compared with what the run recorded."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from shards.base.errors import Note, UserError
from shards.dataset.dataset import Dataset
from shards.images.alignment import Alignment, TemplateName
from shards.images.detector import require_detector
from shards.packing.framing import Framing

if TYPE_CHECKING:
    from facegen.model import Model

AlignChoice = TemplateName | Literal["auto", "none"]


def check_align(align: AlignChoice, margin: float) -> None:
    """Checks the options of an alignment.

    Raises:
        ValueError: A margin without a template, or one out of range.
    """
    if align not in ("auto", "none"):
        Alignment(align, margin)
    elif margin:
        raise ValueError("--align_margin needs --align TEMPLATE.")


def photo_alignment(model: Model, align: AlignChoice, margin: float = 0.0) -> Alignment | None:
    """How photos are aligned for a model, by their largest face; None where they are cropped.

    Notes where that is not how the training images are framed.

    Args:
        model: The model.
        align: A template; ``auto`` for that of the training images, if they have one; ``none`` for no alignment.
        margin: Of the template.

    Raises:
        UserError: A template is named, and the extra ``align`` is not installed.
    """
    trained = model.framing
    if align == "none":
        return None
    if align != "auto":
        require_detector()
        chosen = Alignment(align, margin, "largest")
        if trained is not None and trained.differs_from(Framing("photos", "center", chosen)):
            _note(f"{model.name} was trained on {trained}; photos are aligned as {align}, where faces lie elsewhere.")
        return chosen
    if trained is None:
        return None
    if trained.alignment is None:
        if trained.crop != "center":
            _note(f"{model.name} was trained on {trained}; frame photos alike with --crop, or pass --align TEMPLATE.")
        return None
    try:
        require_detector()
    except UserError as error:
        _note(f"{model.name} was trained on {trained}, and photos are only cropped: {error}")
        return None
    return Alignment(trained.alignment.template, trained.alignment.margin, "largest", "crop")


def other_framing(model: Model, dataset: Dataset) -> str:
    """A sentence where a data set frames faces otherwise than the model's training images; else empty."""
    trained, given = model.framing, Framing.of(dataset.manifest)
    if trained is None or given is None or not trained.differs_from(given):
        return ""
    return (
        f"{model.name} was trained on {trained}, and {dataset.address} holds {given}, where faces lie elsewhere, as "
        "reconstructions and attributes will show; pack it in the framing of the training data."
    )


def note_other_framing(model: Model, dataset: Dataset) -> None:
    """Notes ``other_framing``."""
    sentence = other_framing(model, dataset)
    if sentence:
        _note(sentence)


def _note(sentence: str) -> None:
    warnings.warn(sentence, Note, stacklevel=3)
