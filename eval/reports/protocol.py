"""The protocol of a report: what two reports must share for their numbers to be comparable."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator

from eval.features.space_names import NOT_CHOSEN, frechet_name
from eval.reports.context import Protocol, ReportContext
from shards.dataset.dataset import Dataset

LIBRARIES = ("torch", "torchmetrics", "torch-fidelity", "numpy", "pillow")


def split_title(split: str) -> str:
    """How titles name the split, with a warning for the training split."""
    return "TRAINING split, seen in training" if split == "train" else f"{split} split, held out"


def protocol_lines(report: ReportContext, accelerator: Accelerator) -> dict[str, str]:
    """The protocol as named lines of text, in order."""
    protocol, dataset = report.protocol, report.protocol.dataset
    available = dataset.num_samples(protocol.split)
    lines = {
        "data set": f"{dataset.manifest.name}, fingerprint {dataset.fingerprint}",
        "split": f"{split_title(protocol.split)}: {protocol.num_images:,} of {available:,} images",
        "reference of distances": _reference_line(protocol),
        "samples": f"{protocol.num_samples:,}, seed {protocol.seed}",
        "images": _image_line(dataset),
        **{f"packing: {name}": _text(value) for name, value in _packing(dataset).items()},
    }
    for space in report.spaces:
        text = f"{space.dim}-D; {space.preprocessing}; weights sha256 {space.sha256}"
        lines[f"{frechet_name(space.name)} features"] = text
    absent = {name: reason for name, reason in report.absent_spaces.items() if reason != NOT_CHOSEN}
    lines |= {f"{frechet_name(name)} features": reason for name, reason in absent.items()}
    return lines | {
        "computed on": f"{_device_name(accelerator.device)}, {accelerator.num_processes} process(es), "
        f"batch {protocol.batch_size}, networks in float32, sums in float64",
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def _reference_line(protocol: Protocol) -> str:
    if protocol.reference is None:
        return "the evaluated images"
    splits = protocol.reference_splits
    num_images = sum(map(protocol.dataset.num_samples, splits))
    return f"{num_images:,} images, all of {' and '.join(splits)}"


def _image_line(dataset: Dataset) -> str:
    image = dataset.image
    options = ", ".join(f"{name} {value}" for name, value in image.codec_options.items())
    return f"{image.height}x{image.width}x{image.channels} {image.extension}" + (f" ({options})" if options else "")


def _packing(dataset: Dataset) -> dict[str, Any]:
    """Crop, alignment and resizing from the provenance, which shards that were only indexed lack."""
    provenance = dataset.manifest.provenance
    options = provenance.get("options", {})
    named = {name: options.get(name) for name in ("crop", "align", "resize_filter")}
    named = {"source": provenance.get("source"), **named}
    return {name: value for name, value in named.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
