"""A run that goes on from the state of another one, with other options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from facegen.runs.checkpoint import MARKER, delete, write_complete
from facegen.config import TrainConfig, to_dict
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import SNAPSHOTS
from facegen.training.state import STATE_FILE, read_facts


def branch(source: Path, config: TrainConfig) -> None:
    """Makes ``config.run`` go on from another run's checkpoint.

    What it had trained itself is given up: its checkpoints, and the snapshots from that moment on. Its metrics up to
    the checkpoint's moment stay; the later ones are dropped when training starts.

    Args:
        source: A complete checkpoint of a run with the same networks and optimizer.
        config: Options of the run from here on.
    """
    run = Path(config.run)
    facts = read_facts(source) | {"config": to_dict(config)}

    def write(directory: Path) -> None:
        for path in source.iterdir():
            if path.name not in (MARKER, STATE_FILE):
                shutil.copyfile(path, directory / path.name)
        (directory / STATE_FILE).write_text(json.dumps(facts, indent=1) + "\n")

    write_complete(run / CHECKPOINTS / source.name, write)
    checkpoints, snapshots = run / CHECKPOINTS, run / SNAPSHOTS
    delete(checkpoints, [path for path in checkpoints.glob("images_*") if path.name != source.name])
    delete(snapshots, [path for path in snapshots.glob("images_*") if path.name >= source.name])
