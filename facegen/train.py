"""Entry point of training: ``accelerate launch facegen/train.py FAMILY --data DIR --run RUN [--any.option value]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A script's own folder comes first on sys.path; the project's root must, so that `facegen` is the package.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from facegen import config, preemption
from facegen.trainer import Trainer, TrainingDiverged
from shards.cli import UserError, fail


def main() -> int:
    """Parses, builds, trains; returns the exit code: 0, 1 diverged, 2 bad input, 143 preempted."""
    preemption.stop_with_launcher()
    try:
        return Trainer(config.parse_args(sys.argv[1:])).fit()
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            return 2  # One process says it for all.
        fail(str(error))
    except TrainingDiverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
