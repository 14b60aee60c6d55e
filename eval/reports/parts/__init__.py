"""The list of a report's parts, one file each; its order is that of the table's rows and of each run's pictures."""

from __future__ import annotations

from importlib import import_module

from eval.reports.part import Part

_FILES = (
    "reconstruction",
    "lpips",
    "identity",
    "distances",
    "detection",
    "likelihood",
    "samples",
    "neighbors",
    "memorization",
    "degrees",
    "edits",
    "sweeps",
    "latent",
    "tsne",
    "past",
    "disentanglement",
    "verification",
    "cost",
    "bias",
)
"""Modules of this package; each lists its parts, nearly always one, as ``PARTS``."""

PARTS: tuple[Part, ...] = tuple(part for file in _FILES for part in import_module(f"{__name__}.{file}").PARTS)
