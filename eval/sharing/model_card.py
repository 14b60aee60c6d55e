"""The model card: ``README.md`` of a repository, with the numbers and pictures of a report.

The Hub reads the block at the top, with the numbers as ``model-index``: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import yaml

from eval.reports.output.table import build_table, markdown
from eval.reports.results import Picture, Report, RunResult
from facegen.families import FAMILIES
from facegen.model import Model
from shards.base.errors import UserError

FIGURES = "figures"
_SHOWN = (".png", ".webp")
"""The Hub shows no SVG of a repository."""


class Measured(NamedTuple):
    """What a report says of a model."""

    report: Report
    run: RunResult

    @property
    def pictures(self) -> list[Picture]:
        """The pictures that a card can show: those of the run, and those of all runs."""
        return [item for item in (*self.run.pictures, *self.report.pictures) if item.file.endswith(_SHOWN)]


def find_measured(report: Report, model: Model) -> Measured:
    """Finds a model in a report.

    Raises:
        UserError: The report does not have it with these weights and this sampler.
    """
    wanted = f"{model.name}:{model.sampler}" if model.sampler else model.name
    for run in report.runs:
        is_same = (run.family, run.weights.lower(), run.images_seen, run.dataset_fingerprint) == (
            model.family,
            model.weights,
            model.images_seen,
            model.dataset_fingerprint,
        )
        if is_same and run.name.partition(" (")[0] == wanted:
            return Measured(report, run)
    there = ", ".join(f"{run.name} after {run.images_seen:,} images ({run.weights})" for run in report.runs)
    raise UserError(
        f"the report is not of {wanted} after {model.images_seen:,} images ({model.weights}), but of {there}; make one "
        "of this run."
    )


def model_card(model: Model, repository: str, license: str | None, measured: Measured | None) -> str:
    """The content of ``README.md``.

    Args:
        model: The model.
        repository: ``USER/NAME``.
        license: Of the weights, as the Hub calls it.
        measured: What a report says of it.
    """
    block = yaml.safe_dump(_metadata(model, license, measured), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{block}---\n\n" + "\n\n".join(_sections(model, repository, measured)) + "\n"


def _metadata(model: Model, license: str | None, measured: Measured | None) -> dict[str, Any]:
    tasks = {"sample": "unconditional-image-generation", "encode": "image-feature-extraction"}
    task = next((tasks[ability] for ability in tasks if ability in model.can), None)
    content: dict[str, Any] = {"license": license} if license else {}
    content |= {"library_name": "facegen"} | ({"pipeline_tag": task} if task else {})
    content["tags"] = ["facegen", "faces", model.family.replace("_", "-")]
    if measured and (metrics := _metrics(measured)):
        description = model.description.dataset_name
        data = {"name": measured.report.protocol.get("data set", description), "type": description}
        result = {"task": {"type": task or "other"}, "dataset": data, "metrics": metrics}
        content["model-index"] = [{"name": model.name, "results": [result]}]
    return content


def _metrics(measured: Measured) -> list[dict[str, Any]]:
    """Numbers of which one direction is better."""
    values = ((metric, measured.run.measures[metric.key].value) for metric in measured.report.metrics if metric.better)
    return [
        {"type": metric.key, "name": f"{metric.title} ({metric.unit})" if metric.unit else metric.title, "value": value}
        for metric, value in values
        if value is not None
    ]


def _sections(model: Model, repository: str, measured: Measured | None) -> Iterator[str]:
    about = (FAMILIES[model.family].family_class.__doc__ or "").partition("\n")[0]
    yield f"# {repository.partition('/')[2]}"
    yield f"`{model.family}`: {about} Trained on images of faces with facegen."
    suffix = f":{model.sampler}" if model.sampler else ""
    lines = [f'model = facegen.load("hub:{repository}{suffix}")']
    if "sample" in model.can:
        lines.append("faces = model.sample(16, seed=0)  # float, N x C x H x W in [-1, 1]")
    if "encode" in model.can:
        lines.append("latents = model.encode(images)  # of uint8 images, N x H x W x C")
    yield "```python\nimport facegen  # pip install 'facegen[hub]'\n\n" + "\n".join(lines) + "\n```"
    yield "## The model"
    yield _facts(model)
    if model.prior_note:
        yield "Samples of its prior alone are unlikely to be faces."
    yield from _measured(measured) if measured else ("## Numbers", "Not measured: it was pushed without a report.")


def _facts(model: Model) -> str:
    description, (channels, height, width) = model.description, model.image_shape
    facts = {
        "can": ", ".join(sorted(model.can)),
        "images": f"{height}x{width}x{channels}",
        "framing": str(model.framing) if model.framing else "not known",
        "latents": str(model.latent_size) if model.latent_size else "none",
        "parameters": f"{model.num_parameters:,}",
        "weights": "moving average" if model.weights == "ema" else "as trained",
        "trained on": f"{description.dataset_name}, fingerprint {description.dataset_fingerprint}",
        "training": f"{description.images_seen:,} images ({description.epoch:.3g} epochs), {description.step:,} steps",
        "samplers": ", ".join(model.samplers) or "none fitted",
        "versions": ", ".join(f"{name} {number}" for name, number in description.versions.items()),
        "options": "all of them are in `config.json`",
    }
    return _listed(facts)


def _measured(measured: Measured) -> Iterator[str]:
    report, run = measured
    yield f"## Numbers ({report.protocol.get('split', report.title)})"
    yield from (f"> **Note:** {note}" for note in (*report.warnings, run.difference, *run.warnings) if note)
    yield "↑ higher is better, ↓ lower is better. The other columns are what a model has to beat."
    yield markdown(build_table(replace(report, runs=[run])))
    if measured.pictures:
        yield "## Pictures"
    for picture in measured.pictures:
        caption = f"{picture.caption}\n\n" if picture.caption else ""
        yield f"### {picture.title}\n\n{caption}![{picture.title}]({FIGURES}/{picture.file})"
    yield "## How it was measured"
    yield _listed(report.protocol)


def _listed(lines: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in lines.items())
