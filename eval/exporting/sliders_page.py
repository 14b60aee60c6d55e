"""The studio's sliders as one HTML file that decodes by itself: no server, no network, nothing to install."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from eval.exporting.web_runtime import WebRuntime
from eval.latent.attribute_vectors import Attributes
from eval.latent.conditions import describe_condition
from eval.latent.editing.editor import Editor
from eval.latent.editing.fits import Sliders
from eval.latent.editing.recipes import FaceSource, Mean, Sample, Stored
from eval.latent.tools.tool import data_uri
from facegen import __version__
from facegen.model import Model
from shards.base.errors import UserError

_PAGE = Path(__file__).with_name("page")
_STUDIO = Path(__file__).parents[1] / "studio" / "page"
_TOKENS = Path(__file__).parents[1] / "reports" / "templates" / "tokens.css"
_MODULES = (_STUDIO / "dom.js", _STUDIO / "sliders.js", _PAGE / "decoder.js", _PAGE / "page.js")
"""One after the other they are one module: each uses those before it."""
_IMPORT = re.compile(r'^import .* from "\./[\w.]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_PRIOR_STD = 0.7
"""As the studio draws its first faces: at 1, many models draw no faces from their prior."""


def sliders_page(editor: Editor, files: Mapping[str, bytes], runtime: WebRuntime, num_axes: int, num_faces: int) -> str:
    """Makes the page.

    Args:
        editor: The run.
        files: The ONNX files ``decoder`` and, if a flow makes latents of noise under a degree, ``flow_step``.
        runtime: Runs them.
        num_axes: Sliders of axes, at most.
        num_faces: Samples to start from, and as many held-out faces where the run can encode and there is a data set.

    Returns:
        HTML.
    """
    model = editor.model
    described = _describe(editor, num_axes, num_faces)
    channels, height, width = model.image_shape
    held = {name: gzip.compress(content, mtime=0) for name, content in {**files, "runtime": runtime.binary}.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("sliders.html.j2").render(
        model=described,
        about=f"{model.family}, {height}x{width}x{channels}, decoded in this page; made by facegen {__version__}",
        # Nothing in a script may look like its end, whatever the names of runs and labels.
        model_json=json.dumps(described, allow_nan=False).replace("<", "\\u003c"),
        style="\n".join(path.read_text(encoding="utf-8") for path in (_TOKENS, _STUDIO / "studio.css")),
        code="\n".join(_without_imports(path.read_text(encoding="utf-8")) for path in _MODULES),
        script=_base64(runtime.script),
        files={name: _base64(content) for name, content in held.items()},
    )


def follows_flow(model: Model) -> bool:
    """Whether the model's latents are noise that a flow carries, under a degree, to those of the decoder."""
    return model.network.num_flow_steps is not None and model.condition != model.network.codec.condition


def _without_imports(code: str) -> str:
    return _EXPORT.sub("", _IMPORT.sub("", code))


def _describe(editor: Editor, num_axes: int, num_faces: int) -> dict[str, Any]:
    """What ``page.js`` reads."""
    model = editor.model
    channels, height, width = model.image_shape
    sliders = editor.sliders.wait()
    return {
        "name": editor.name,
        "channels": channels,
        "height": height,
        "width": width,
        "num_latents": model.latent_size,
        "condition": describe_condition(model),
        "num_flow_steps": model.network.num_flow_steps if follows_flow(model) else None,
        "kind": sliders.kind,
        "axes": _axes(sliders, num_axes),
        "attributes": _attributes(editor),
        "faces": [_face(editor, label, face) for label, face in _faces(editor, num_faces)],
    }


def _axes(sliders: Sliders, num: int) -> list[dict[str, Any]]:
    axes, shares = sliders.axes, sliders.shares
    return [
        {
            "number": number,
            "share": None if shares is None else float(shares[number]),
            "center": float(axes.centers[number]),
            "unit": float(axes.units[number]),
            "direction": _floats(axes.directions[number]),
        }
        for number in range(min(num, len(axes.units)))
    ]


def _attributes(editor: Editor) -> list[dict[str, Any]]:
    try:
        attributes: Attributes = editor.attributes.wait()
    except UserError:
        return []  # Neither labels nor files of attributes.
    return [
        {
            "name": name,
            "num_present": int(attributes.num_present[number]),
            "num_absent": int(attributes.num_absent[number]),
            "vector": _floats(attributes.vectors[number]),
        }
        for number, name in enumerate(attributes.names)
    ]


def _faces(editor: Editor, num: int) -> list[tuple[str, FaceSource]]:
    """The middle of all axes, samples, and held-out faces spread evenly over their split."""
    std = 1.0 if editor.model.sampler else _PRIOR_STD
    found: list[tuple[str, FaceSource]] = [("average face", Mean(kind="mean"))]
    found += [(f"seed {seed}", Sample(kind="sample", seed=seed, std=std, sampler=None)) for seed in range(num)]
    if editor.dataset is not None and editor.can_encode:
        split = next(name for name in ("test", "val", "train") if name in editor.dataset.splits)
        available = editor.dataset.num_samples(split)
        rows = sorted({available * number // num for number in range(num)})
        found += [(f"{split} {row}", Stored(kind="data", split=split, row=row)) for row in rows]  # type: ignore[arg-type]
    return found


def _face(editor: Editor, label: str, face: FaceSource) -> dict[str, Any]:
    latent, degree = editor.start(face)  # type: ignore[arg-type]
    return {
        "label": label,
        "latent": _floats(latent),
        "degree": None if np.isnan(degree) else float(degree),
        "picture": data_uri(editor.decode(latent, degree)),
    }


def _floats(values: np.ndarray) -> str:
    return _base64(np.ascontiguousarray(values, "<f4").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
