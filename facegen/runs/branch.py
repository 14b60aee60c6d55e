"""A run that continues from the state of another one, with other options."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from facegen.option_values import to_dict
from facegen.options import TrainConfig
from facegen.runs.checkpoint import MARKER, delete, write_complete
from facegen.runs.run_directory import CHECKPOINTS
from facegen.runs.snapshot import SNAPSHOTS
from facegen.runs.state_file import STATE_FILE, read_facts, write_facts


def branch(source: Path, config: TrainConfig) -> None:
    """Makes ``config.run`` continue from another run's checkpoint.

    The run's own training is discarded: all its checkpoints, and its snapshots from that moment on. Its metrics up to
    the checkpoint's moment stay; later ones are dropped when training starts.

    Args:
        source: A complete checkpoint of a run with the same networks and optimizer.
        config: Options of the run from here on.
    """
    run = Path(config.run)
    facts = replace(read_facts(source), config=to_dict(config))

    def write(directory: Path) -> None:
        for path in source.iterdir():
            if path.name not in (MARKER, STATE_FILE):
                shutil.copyfile(path, directory / path.name)
        write_facts(directory, facts)

    write_complete(run / CHECKPOINTS / source.name, write)
    checkpoints, snapshots = run / CHECKPOINTS, run / SNAPSHOTS
    delete(checkpoints, [path for path in checkpoints.glob("images_*") if path.name != source.name])
    delete(snapshots, [path for path in snapshots.glob("images_*") if path.name >= source.name])
