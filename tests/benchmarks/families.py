"""Trains every family on one data set with the same number of images and batch size, reports, and prints a table.

    python tests/benchmarks/families.py DATA OUT [--max_images 20000] [--only '[vae,dfc_vae]']

``facegen/train.py`` trains each member from a preset; ``MEMBERS`` lists the differences from it. A finished member is
not trained again. The flow learns the latents of another member, not images, for as long as its preset says.
OUT/report holds the report of all of them, OUT/samples.png samples of each; ``--report false`` skips both and measures
training speeds only. A speed is
the median over the windows between two log lines of one process, without validation and checkpoints, and means little
on a busy machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import facegen
from eval.drawing.grids import Row, face_grid
from eval.latent.options import save_png
from facegen.pixels import to_uint8
from shards.base.errors import UserError
from shards.command_line.cli import parse, run

NUM_DRAWN = 12
"""Samples of each member in the picture."""
ROOT = Path(__file__).resolve().parents[2]
PRESETS = ROOT / "facegen" / "presets"
_TRAINING = Path("facegen") / "train.py"


class Member(NamedTuple):
    """One row: a family, its preset, and changes to it."""

    family: str
    preset: str
    changes: dict[str, Any] = {}
    autoencoder: str | None = None
    """The member whose latents a flow learns."""


PERSONS = [
    {"same": ["identity"], "varies": None, "where": [], "ratio": 1, "free": ["0-15"]},
    {"same": [], "varies": None, "where": [], "ratio": 1, "free": ["16-63"]},
]
"""Groups of one person, in which everything else varies, and groups of many people."""

MEMBERS = {
    "ae": Member("ae", "ae_lfw"),
    "vae": Member("vae", "vae_lfw_kld_0.1"),
    "sigma_vae": Member("vae", "sigma_vae_lfw"),
    "beta_vae": Member("beta_vae", "beta_vae_4"),
    "cvae": Member("cvae", "cvae_celeba", {"model": {"label": "Smiling"}}),
    "mod_vae": Member("mod_vae", "mod_vae_synthetic", {"model": {"latent_size": 64, "groups": PERSONS}}),
    "ae_gan": Member("ae_gan", "ae_gan_lfw"),
    "vae_gan": Member("vae_gan", "vae_gan_lfw"),
    "flow": Member("flow", "flow_lfw", autoencoder="ae_gan"),
    "dcgan": Member("dcgan", "dcgan_lfw"),
    "dfc_vae_pixels": Member("dfc_vae", "dfc_vae_lfw_pixels"),
    "dfc_vae_facenet": Member("dfc_vae", "dfc_vae_lfw_facenet"),
    "dfc_vae": Member("dfc_vae", "dfc_vae_lfw"),
    "face_cnn": Member("face_cnn", "face_cnn_small"),
    "dfc_vae_large": Member("dfc_vae_large", "dfc_vae_lfw_facenet"),
    "dfc_vae_resnet": Member("dfc_vae_resnet", "dfc_vae_lfw_facenet"),
}
OF_IMAGES = [name for name, member in MEMBERS.items() if member.autoencoder is None]
"""Members that a packed data set is enough for."""


def check_names(only: list[str] | None, known: Collection[str] = OF_IMAGES) -> None:
    """Rejects names that are not ``known``."""
    unknown = sorted(set(only or ()) - set(known))
    if unknown:
        raise ValueError(f"--only does not know {', '.join(unknown)}; choose from {', '.join(known)}.")


_LONGEST_WARMUP = 1000
"""Training images; the presets' warm-ups suit longer trainings."""


@dataclass
class Config:
    """Settings of the benchmark."""

    data: Path
    """A packed data set; leave out members whose labels it lacks with --only."""
    out: Path
    """Folder for the runs, the report and families.md."""
    max_images: int = 20_000
    """Training images of each member."""
    batch_size: int = 16
    """Batch size of every member; a multiple of 4."""
    only: list[str] | None = None
    """Members to train and compare; null takes all."""
    report: bool = True
    """Whether to compare the runs on the test split."""
    num_images: int | None = None
    """Held-out images, and as many samples, in the report; null takes the whole test split."""
    spaces: list[str] = field(default_factory=lambda: ["efflite0"])
    """Feature spaces of the report's distances."""
    beside: list[str] = field(default_factory=list)
    """More runs, each RUN or RUN:SAMPLER, for the report."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        check_names(self.only, MEMBERS)


def main() -> None:
    """Trains, reports, prints."""
    config = parse(Config, prog="tests/benchmarks/families.py", description=__doc__, positional=["data", "out"])
    names = config.only or list(MEMBERS)
    for name in names:
        train(name, config)
    lines = ["| member | images seen | images/s |", "|---|---:|---:|"]
    for name in names:
        rows = [row for row in metrics(config.out / name) if "speed/images_per_sec" in row]
        speed = statistics.median(row["speed/images_per_sec"] for row in rows)
        lines.append(f"| {name} | {rows[-1]['images_seen']:,} | {speed:.0f} |")
    (config.out / "families.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if config.report:
        compare(names, config)
        draw(names, config)


def train(name: str, config: Config) -> None:
    """Trains or resumes a member; its configuration lies beside its run."""
    path = config.out / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options(MEMBERS[name], config), sort_keys=False))
    arguments = ["--config", str(path), "--data", str(config.data), "--run", str(config.out / name)]
    command = [sys.executable, str(_TRAINING), MEMBERS[name].family, *arguments]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise UserError(f"{name} could not be trained; see its message above.")


def configuration(member: Member) -> dict[str, Any]:
    """The preset with the member's changes, without a limit."""
    preset = yaml.safe_load((PRESETS / f"{member.preset}.yaml").read_text())
    limits = ("max_epochs", "max_images", "max_steps")
    kept = {name: value for name, value in preset.items() if name not in limits}
    return merged(kept | {"family": member.family}, member.changes)


def timed(options: dict[str, Any], num_steps: int) -> dict[str, Any]:
    """A training of ``num_steps`` steps for timing: five log lines, and as little monitoring as possible."""
    batch_size = options["global_batch_size"]
    rare = 1000 * num_steps * batch_size
    monitor = {"grid_every_images": rare, "validate_every_images": rare, "num_validation_images": 32}
    monitor["log_every_images"] = num_steps // 5 * batch_size
    kept = {name: value for name, value in options.items() if name != "early_stop"}
    return kept | {"max_steps": num_steps, "monitor": monitor}


def speeds(run_directory: Path) -> list[dict[str, float]]:
    """The log lines of a timed training, without the first one, the warm-up."""
    return [line for line in metrics(run_directory) if "speed/images_per_sec" in line][1:]


def options(member: Member, config: Config) -> dict[str, Any]:
    """The preset with the member's changes, at the common length and batch size."""
    if member.autoencoder:
        preset = yaml.safe_load((PRESETS / f"{member.preset}.yaml").read_text())
        return merged(preset, {"model": {"autoencoder": str(config.out.resolve() / member.autoencoder)}})
    result = configuration(member)
    warmup = min(_LONGEST_WARMUP, result["optim"]["warmup_images"])
    every = {"log_every_images": 960, "validate_every_images": config.max_images}
    common = {"global_batch_size": config.batch_size, "max_images": config.max_images, "monitor": every}
    return merged(result, common | {"optim": {"warmup_images": warmup}})


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``changes``, merged recursively."""
    result = dict(base)
    for name, value in changes.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def compare(names: list[str], config: Config) -> None:
    """One report over the members."""
    runs = [*(str(config.out / name) for name in names), *config.beside]
    command = [sys.executable, "-m", "eval.report", *runs, "--data", str(config.data), "--split", "test"]
    command += ["--spaces", json.dumps(config.spaces), "--fid_weights", "none", "--out", str(config.out / "report")]
    command += ["--baselines", json.dumps(["real", "eigenfaces", "mean_face", "double_exposure"])]
    if config.num_images is not None:
        command += ["--num_images", str(config.num_images), "--num_samples", str(config.num_images)]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise UserError("the report failed; see its message above.")


def draw(names: list[str], config: Config) -> None:
    """The same samples of every member that has any, a row each."""
    models = {name: facegen.load(config.out / name) for name in names}
    samples = {name: model.sample(NUM_DRAWN, seed=0) for name, model in models.items() if "sample" in model.can}
    rows = [Row(to_uint8(images).numpy(), name) for name, images in samples.items()]
    save_png(str(config.out / "samples.png"), face_grid(rows))


if __name__ == "__main__":
    run(main)
