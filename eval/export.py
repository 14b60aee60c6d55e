"""Exports a trained model for other programs: ``python -m eval.export RUN --out DIR``.

Encoder, decoder and the step of a flow become files of ONNX or of torch.export. Each is read back and compared with the
model before it gets its name. ``--format html`` writes the studio's sliders as one page that decodes by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from eval.exporting.programs import BATCH, Program, programs_of
from eval.exporting.sliders_page import follows_flow, sliders_page
from eval.exporting.web_runtime import web_runtime
from eval.exporting.written_files import ONNX, TORCH_EXPORT, require_onnx, write_checked
from eval.latent.editing.editor import Editor
from eval.latent.editing.uploads import Uploads
from eval.latent.origin import snapshot_identity
from facegen.model import Model, load
from facegen.option_values import refuse_unused
from shards.base.errors import UserError
from shards.base.files import output_folder, publish, write_bytes, write_json, writing_to
from shards.base.formats import Format
from shards.command_line import cli
from shards.dataset.mixture import open_dataset

_FORMATS = {"onnx": ONNX, "torch_export": TORCH_EXPORT}
_MANIFEST = Format("description of an export", 1)
MANIFEST = "export.json"
PAGE = "sliders.html"


@dataclass(kw_only=True)
class ModelExportConfig:
    """Options of an export."""

    run: str
    """Run directory (its newest snapshot) or snapshot directory; RUN:NAME draws the page's samples with a sampler."""
    out: str
    """Directory for the files."""
    format: Literal["onnx", "torch_export", "html"] = "onnx"
    """onnx: encoder.onnx, decoder.onnx, flow_step.onnx. torch_export: the same as .pt2. html: sliders.html, a page that
    runs the decoder in the browser. The first and the last need the extra export."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; null takes the average where there is one."""
    data: str | None = None
    """For html: packed data set to find the sliders, and faces to start from. Without it, sliders are single dims."""
    attributes: list[str] = field(default_factory=list)
    """For html: files of eval.attributes fit, besides the labels of --data."""
    num_axes: int = 64
    """For html: sliders of axes, at most."""
    num_faces: int = 12
    """For html: samples to start from, and as many faces of --data."""
    web_runtime: str | None = None
    """For html: the npm package onnxruntime-web, as an archive or a folder; null downloads it once."""

    def __post_init__(self) -> None:
        """Rejects impossible values, and options of the page without it."""
        for name, least in (("num_axes", 1), ("num_faces", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.format != "html":
            refuse_unused(
                self, ("data", "attributes", "num_axes", "num_faces", "web_runtime"), f"with --format {self.format}"
            )


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        ModelExportConfig,
        prog="python -m eval.export",
        description="Exports a trained model as ONNX, torch.export or a page with sliders, and checks each file.",
        positional=["run"],
        args=args,
    )
    if config.format != "torch_export":
        require_onnx()
    model = load(config.run, weights=config.weights)
    out = output_folder(config.out)
    if config.format == "html":
        export_page(config, model, out)
    else:
        export_programs(model, out, config.format)


def export_programs(model: Model, out: Path, form: Literal["onnx", "torch_export"]) -> dict[str, float]:
    """Writes the programs of a model and ``export.json``, which describes them; prints what was written.

    Args:
        model: On the CPU.
        out: An existing folder.
        form: The format.

    Returns:
        By program, how far the written file is from the model: see ``largest_difference``.

    Raises:
        UserError: A program differs by more than 1e-4, or cannot be written.
    """
    suffix = _FORMATS[form].suffix
    differences: dict[str, float] = {}
    described = {}
    with writing_to(out), tempfile.TemporaryDirectory(prefix=".export.", dir=out) as temporary:
        programs = programs_of(model)
        for program in programs:
            path = Path(temporary) / f"{program.name}{suffix}"
            differences[program.name] = write_checked(program, path, _FORMATS[form])
            described[program.name] = _describe(program, path.name, differences[program.name])
        for program in programs:
            publish(Path(temporary) / f"{program.name}{suffix}", out / f"{program.name}{suffix}", durable=False)
        write_json(out / MANIFEST, _MANIFEST.stamp({**_describe_model(model), "programs": described}), indent=1)
    for name, difference in differences.items():
        print(f"wrote {out / f'{name}{suffix}'}: differs from the model by at most {difference:.1e}")
    return differences


def export_page(config: ModelExportConfig, model: Model, out: Path) -> Path:
    """Writes ``sliders.html``, prints that, and returns its path.

    Raises:
        UserError: The model cannot decode, its ONNX files differ from it by more than 1e-4, there is no
            onnxruntime-web, or the data set does not fit.
    """
    if "decode" not in model.can:
        raise UserError(model.lacking("decode"))
    runtime = web_runtime(Path(config.web_runtime) if config.web_runtime else None)
    editor = Editor(
        model.name, model, None if config.data is None else open_dataset(config.data), config.attributes, Uploads()
    )
    used = {"decoder", "flow_step"} if follows_flow(model) else {"decoder"}
    differences, files = {}, {}
    with writing_to(out), tempfile.TemporaryDirectory(prefix=".export.", dir=out) as temporary:
        for program in programs_of(model):
            if program.name in used:
                path = Path(temporary) / program.name
                differences[program.name] = write_checked(program, path, ONNX)
                files[program.name] = path.read_bytes()
    page = sliders_page(editor, files, runtime, config.num_axes, config.num_faces).encode()
    with writing_to(out / PAGE):
        write_bytes(out / PAGE, page, durable=False)
    print(
        f"wrote {out / PAGE} ({len(page) / 1e6:.1f} MB): its decoder differs from the model by at most "
        f"{max(differences.values()):.1e}; open it in a browser"
    )
    return out / PAGE


def _describe_model(model: Model) -> dict[str, object]:
    return {
        "model": model.name,
        "family": model.family,
        "weights": model.weights,
        "snapshot": snapshot_identity(model),
        "images_seen": model.images_seen,
        "image_shape": list(model.image_shape),
        "image_range": [-1, 1],
        "num_latents": model.latent_size,
        "condition": model.condition,
        "condition_range": model.condition_range,
        "num_flow_steps": model.network.num_flow_steps,
    }


def _describe(program: Program, file: str, difference: float) -> dict[str, object]:
    """The file, its inputs and outputs with their shapes, and the difference from the model."""

    def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, list[int | str]]:
        return {name: [BATCH, *tensor.shape[1:]] for name, tensor in tensors.items()}

    outputs = dict(zip(program.outputs, program.run(*program.examples), strict=True))
    return {
        "file": file,
        "inputs": shapes(program.inputs),
        "outputs": shapes(outputs),
        "largest_difference": difference,
    }


if __name__ == "__main__":
    cli.run(main)
