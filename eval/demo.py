"""From nothing to a report: ``python -m eval.demo`` packs synthetic faces, trains a VAE and compares it with baselines.

It runs the commands that it prints, each in a process of its own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facegen.command import ENTRY
from shards.command_line import cli


@dataclass
class DemoConfig:
    """Options of the demo."""

    out: str = "demo"
    """Folder for the data, the run and the report."""
    num: int = 4_000
    """Faces to pack."""
    max_images: int | None = None
    """Images to train on, repeats included; those of the preset vae_demo when not given."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if self.num < 100:
            raise ValueError(f"num must be at least 100, not {self.num}.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        DemoConfig,
        prog="python -m eval.demo",
        description="Packs synthetic faces, trains a VAE and writes its report: minutes on a CPU. Rerun it to resume.",
        args=sys.argv[1:] if args is None else args,  # Without options it runs; `cli.parse` would print the help.
    )
    for words in commands(config):
        print(f"\n$ facegen {shlex.join(words)}", flush=True)
        try:
            done = subprocess.run([sys.executable, str(ENTRY), *words])
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        if done.returncode:
            raise SystemExit(done.returncode)
    out = Path(config.out)
    print(
        f"\nOpen {out / 'report' / 'report.html'}\nTraining curves: tensorboard --logdir {out}\n"
        f"Edit faces: facegen studio {out / 'run'} --data {out / 'data'}"
    )


def commands(config: DemoConfig) -> list[list[str]]:
    """The words of each command behind ``facegen``."""
    out = Path(config.out)
    data, run = str(out / "data"), str(out / "run")
    # Faces in the pose of aligned photos, cropped so that the mouth has enough pixels to learn a smile.
    pose = ["--crop", "0.2,0.25,0.8,0.85", "--hold", "[yaw,roll,scale,shift_x,shift_y]"]
    length = [] if config.max_images is None else ["--max_images", str(config.max_images)]
    report = ["--split", "test", "--fid_weights", "none", "--num_train", "1000", "--skip", "bias"]
    return [
        ["pack", "synthetic", data, "--num", str(config.num), "--size", "64", "--seed", "0", *pose],
        ["train", "vae", "--config", "vae_demo", "--data", data, "--run", run, *length],
        ["report", run, "--data", data, *report, "--out", str(out / "report")],
    ]


if __name__ == "__main__":
    cli.run(main)
