"""The results as a table, as JSON, and as charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.drawing import svg
from shards.base.files import write_json
from time_to_quality.contest import Curve
from time_to_quality.systems import SYSTEMS


@dataclass(frozen=True)
class Results:
    """All that is written."""

    conditions: Mapping[str, str]
    targets: Mapping[str, float]
    """Held-out MSE by the name that the command line gave it."""
    curves: Sequence[Curve]
    distance: str
    """Name of the distance of reconstructions; empty where none was measured."""
    notes: Sequence[str] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> None:
        """Replaces NAME.md, NAME.json, NAME.svg (over seconds) and NAME_images.svg."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(page(self, name))
        write_json(folder / f"{name}.json", as_json(self), indent=1)
        (folder / f"{name}.svg").write_text(chart(self, "seconds"))
        (folder / f"{name}_images.svg").write_text(chart(self, "images"))
        if self.distance:
            (folder / f"{name}_distance.svg").write_text(distance_chart(self))


def as_json(results: Results) -> dict[str, Any]:
    """Everything, with the whole curves."""
    systems = []
    for curve in results.curves:
        reached = {name: curve.reached(mse) for name, mse in results.targets.items()}
        systems.append(
            {
                "name": curve.name,
                "about": SYSTEMS[curve.name].about,
                "facts": curve.facts._asdict() if curve.facts else None,
                "seconds": curve.seconds,
                "cpu_seconds": curve.cpu_seconds,
                "images": curve.images,
                "ended": curve.ended,
                "seconds_until": {name: point and point.seconds for name, point in reached.items()},
                "cpu_seconds_until": {name: point and point.cpu_seconds for name, point in reached.items()},
                "points": [point._asdict() for point in curve.points],
            }
        )
    own = {"conditions": dict(results.conditions), "notes": list(results.notes), "targets": dict(results.targets)}
    return own | {"distance": results.distance, "systems": systems}


def page(results: Results, name: str) -> str:
    """The results as Markdown."""
    lines = ["# Time to quality", "", "Made by `python tests/benchmarks/quality.py`.", ""]
    lines += [f"* {key}: {value}" for key, value in results.conditions.items()]
    lines += [f"* {note}" for note in results.notes]
    header = ["system", "parameters", "latents", "beta_eff", "batch", "images/s", "cores", "images", "MSE", "KL, nats"]
    header += [results.distance] if results.distance else []
    for target, mse in results.targets.items():
        shown = target if target == f"{mse:g}" else f"{target} ({mse:.5f})"
        header += [f"seconds until {shown}", "times ours", "in CPU time"]
    lines += ["", f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += [row(curve, results) for curve in results.curves]
    lines += ["", *(f"* {curve.name}: {about(curve)}" for curve in results.curves)]
    lines += ["", f"![held-out MSE over seconds]({name}.svg)", f"![held-out MSE over images]({name}_images.svg)"]
    lines += [f"![{results.distance} over seconds]({name}_distance.svg)"] if results.distance else []
    return "\n".join([*lines, ""])


def row(curve: Curve, results: Results) -> str:
    """A row of the table: facts, the last evaluation, and the targets."""
    cells = [curve.name]
    facts, last = curve.facts, curve.points[-1] if curve.points else None
    if facts:
        beta = "" if facts.beta_eff is None else f"{facts.beta_eff:.3g}"
        cells += [f"{facts.parameters:,}", f"{facts.latent_size:,}", beta, str(facts.batch_size)]
    else:
        cells += [""] * 4
    seconds = curve.seconds or 1.0
    cells += [f"{curve.images / seconds:,.0f}", f"{curve.cpu_seconds / seconds:.2f}", f"{curve.images:,}"]
    cells += [f"{last.mse:.5f}" if last else "", "" if last is None or last.kl is None else f"{last.kl:,.1f}"]
    if results.distance:
        measured = [point.distance for point in curve.points if point.distance is not None]
        cells.append(f"{measured[-1]:.1f}" if measured else "")
    ours = next((other for other in results.curves if other.name == "ours"), None)
    for mse in results.targets.values():
        cells += until(curve, ours, mse)
    return f"| {' | '.join(cells)} |"


def until(curve: Curve, ours: Curve | None, mse: float) -> tuple[str, str, str]:
    """When a system reached a target, and how many times as long as ours that took, or at least how many.

    The last is in CPU time, which other programs disturb less: on a busy machine a preparation of one turn may meet
    more of them than another's.
    """
    point, our_point = curve.reached(mse), ours.reached(mse) if ours else None
    reached = f"not within {curve.seconds:,.0f}" if point is None else f"{point.seconds:,.1f}"
    if our_point is None:
        return reached, "", ""
    last = point or curve
    ratios = last.seconds / our_point.seconds, last.cpu_seconds / our_point.cpu_seconds
    if point is None:
        return reached, *(f"> {ratio:.1f}" if ratio > 1 else "" for ratio in ratios)
    return reached, *(f"{ratio:.1f}" for ratio in ratios)


def about(curve: Curve) -> str:
    """What the system is, and why it ended early if it did."""
    ending = f"; after {curve.seconds:,.0f} s: {curve.ended}" if curve.ended else ""
    return SYSTEMS[curve.name].about + ending


def chart(results: Results, axis: str) -> str:
    """Held-out MSE of every system over ``seconds`` or ``images``; targets are pale."""
    series = []
    for color, curve in enumerate(results.curves):
        if curve.points:
            x = [float(getattr(point, axis)) for point in curve.points]
            series.append(svg.Series(curve.name, x, [point.mse for point in curve.points], color))
    end = max(line.x[-1] for line in series)
    for name, mse in results.targets.items():
        series.append(svg.Series(name, [0.0, end], [mse, mse], len(results.curves), faint=True))
    return svg.line_chart("Held-out MSE on [-1, 1]", series, f"{axis} of training", log=True)


def distance_chart(results: Results) -> str:
    """Distance of the reconstructions of every system over seconds."""
    series = []
    for color, curve in enumerate(results.curves):
        measured = [(point.seconds, point.distance) for point in curve.points if point.distance is not None]
        if measured:
            seconds, distances = zip(*measured, strict=True)
            series.append(svg.Series(curve.name, seconds, distances, color))
    return svg.line_chart(f"{results.distance} of held-out reconstructions", series, "seconds of training", log=True)
