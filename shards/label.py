"""``python -m shards.label``: degrees of smile from the reaction times of people who look at faces.

``serve IMAGES FOLDER`` serves a page on this machine: a subject says of one face after the other, as fast as possible,
whether it smiles, and the browser measures the time. ``export FOLDER OUT.csv`` turns the answers into degrees from -1
to 1 (``shards.labeling.scoring`` has the formula), in the format that ``shards.pack utkface --degrees`` and
``shards.pack folder --labels`` read.
"""

from __future__ import annotations

import csv
import math
import webbrowser
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.base.errors import UserError
from shards.base.files import only_one, replacing
from shards.card.drawing import draw_histograms
from shards.card.tables import histogram
from shards.command_line.cli import parse_command, run
from shards.dataset.manifest import LabelField
from shards.labeling.answers import read_answers
from shards.labeling.scoring import Degrees, combine, notes
from shards.labeling.session import SESSION_FILE, open_session
from shards.labeling.subjects import Labeling
from shards.serving.server import LOOPBACK, listen, require_web_packages, run_app
from shards.sources.files.degree_table import DEGREE_COLUMN, FILE_COLUMN

_LOCK = "server.lock"


@dataclass
class ServeConfig:
    """Serves the labeling page on this machine; rerun the command to resume."""

    images: Path
    """Folder of pictures, searched recursively."""
    folder: Path
    """Folder for the answers: one file for each subject; every answer is saved at once."""
    port: int = 8765
    """Port of the page; 0 takes a free one."""
    repeats: float = 0.1
    """Share of the pictures that are shown twice, to see who pays attention."""
    seed: int = 0
    """Seed of the order of pictures, which differs between subjects."""
    open: bool = False
    """Open the page in the browser."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        if not 0 <= self.repeats <= 1:
            raise ValueError(f"repeats must be between 0 and 1, not {self.repeats}.")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, not {self.port}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, it is {self.seed}.")


@dataclass
class ExportConfig:
    """Makes a CSV of degrees of smile from the answers."""

    folder: Path
    """Folder of the answers."""
    out: Path
    """CSV file: stimulus_filename,avg_encode."""
    min_consistency: float = 0.0
    """Leave out subjects who gave the same answer to fewer than this share of the pictures shown twice."""
    histogram: Path | None = None
    """PNG file for a histogram of the degrees."""

    def __post_init__(self) -> None:
        """Raises ValueError for a share out of range."""
        if not 0 <= self.min_consistency <= 1:
            raise ValueError(f"min_consistency must be between 0 and 1, not {self.min_consistency}.")


def serve(config: ServeConfig) -> None:
    """Serves until Ctrl-C.

    Raises:
        UserError: No pictures, another labeling in the folder, another server of it, a port that is taken, or the extra
            ``studio`` is not installed.
    """
    require_web_packages("the labeling page")
    from shards.labeling.label_app import make_label_app

    busy = f"another server collects answers in {config.folder}; stop it, or give another folder."
    with only_one(config.folder / _LOCK, busy):
        session = open_session(config.folder, config.images, config.seed, config.repeats)
        app = make_label_app(Labeling(config.images, config.folder, session))
        listening = listen(LOOPBACK, config.port)
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}/"
        print(
            f"{len(session.files)} pictures, {session.num_trials} answers of each subject. Open {address}", flush=True
        )
        print("Ctrl-C stops the server; every answer is already saved.", flush=True)
        if config.open:
            webbrowser.open(address)
        run_app(app, listening)
    print()


def export(config: ExportConfig) -> Degrees:
    """Writes the CSV and, if asked for, the histogram.

    Raises:
        UserError: No answers there, or files that cannot be written.
    """
    if not (config.folder / SESSION_FILE).is_file():
        raise UserError(
            f"{config.folder} holds no labeling; begin one with: python -m shards.label serve IMAGES FOLDER"
        )
    result = combine(read_answers(config.folder), config.min_consistency)
    if not result.degrees:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in result.left_out.items()) or "nobody answered yet"
        raise UserError(f"there are no degrees to export from {config.folder} ({reasons}); collect answers first.")
    try:
        _write_csv(config.out, result.degrees)
        if config.histogram is not None:
            values = np.array(list(result.degrees.values()), np.float32)
            bars = histogram("degree of smile", LabelField("float"), values)
            draw_histograms([bars]).save(config.histogram, "PNG")
    except OSError as error:
        raise UserError(f"cannot write {error.filename} ({error.strerror}); give another file name.") from None
    return result


def report(result: Degrees) -> list[str]:
    """Lines of text about subjects, agreement and degrees."""
    lines = [f"{'subject':20}{'answers':>9}{'repeats':>9}{'same answer':>13}"]
    for name, subject in result.subjects.items():
        same = "-" if math.isnan(subject.consistency) else f"{subject.consistency:.0%}"
        lines.append(f"{name:20}{subject.num_answers:>9}{subject.num_repeated:>9}{same:>13}")
    lines += [f"Left out: {name}, {reason}." for name, reason in result.left_out.items()]
    lines += notes(result)
    for what, alpha in (("degrees", result.alpha_degree), ("smile or no smile", result.alpha_sign)):
        text = "needs two subjects with pictures in common" if math.isnan(alpha) else f"{alpha:.3f}"
        lines.append(f"Agreement between subjects, {what} (Krippendorff's alpha): {text}")
    values = np.array(list(result.degrees.values()))
    counts, _ = np.histogram(values, bins=10, range=(-1, 1))
    lines.append(f"{len(values)} degrees from {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}:")
    for number, count in enumerate(counts.tolist()):
        low = -1 + number / 5
        lines.append(f"{low:5.1f} to {low + 0.2:4.1f} {'#' * round(40 * count / counts.max())} {count}")
    return lines


def _write_csv(path: Path, degrees: Mapping[str, float]) -> None:
    """Writes pictures by their file names, or by their paths where two share a name."""
    names = Counter(file.rsplit("/", 1)[-1] for file in degrees)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([FILE_COLUMN, DEGREE_COLUMN])
        for image, degree in degrees.items():
            name = image.rsplit("/", 1)[-1]
            writer.writerow([name if names[name] == 1 else image, f"{degree:.6f}"])


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    _, config = parse_command(
        {"serve": ServeConfig, "export": ExportConfig},
        prog="python -m shards.label",
        description="Labels faces with a degree of smile by reaction times: serve the page, then export the degrees.",
        dest="command",
        positional=lambda name: ("images", "folder") if name == "serve" else ("folder", "out"),
        args=args,
    )
    if isinstance(config, ServeConfig):
        serve(config)
        return
    print("\n".join(report(export(config))))
    print(f"Degrees: {config.out}")


if __name__ == "__main__":
    run(main)
