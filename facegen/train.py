"""Entry point of training: ``accelerate launch facegen/train.py FAMILY --data DIR --run RUN [--any.option value]``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# A script's own folder comes first on sys.path; the project's root must, so that `facegen` is the package.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from facegen.processes.launcher import stop_with_launcher

    stop_with_launcher()  # Now, since the imports below take seconds.

from facegen import config
from facegen.processes import preemption
from facegen.processes.failures import TrainingFailed
from facegen.processes.group import lost_process, run_process
from facegen.training.trainer import Trainer
from shards.base.cli import fail
from shards.base.errors import ENDING, UserError

_FIRST_SPEAKS_SEC = 3.0


def main() -> int:
    """Parses, builds, trains; returns the exit code: 0, 1 training failed, 2 bad input, 143 preempted."""
    trainer = None
    try:
        trainer = Trainer(config.parse_args(sys.argv[1:]))
        code = trainer.fit()
        trainer.accelerator.end_training()
        return code
    except UserError as error:
        # Before training all processes of a machine find the same, as a rule: one says it, and then the launcher ends
        # the others. What only another one has found, that one says.
        if trainer is None and os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(_FIRST_SPEAKS_SEC)
        fail(str(error))
    except TrainingFailed as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        reason = lost_process(error)
        if reason is None:
            raise
        print(
            f"error: process {os.environ['RANK']} has lost another one, which ended or did not answer ({reason}); the "
            "checkpoints are intact: rerun the command.",
            file=sys.stderr,
        )
        return 1
    finally:
        ENDING.set()
        preemption.ignore_stop()  # The launcher asks the others to stop when one has ended, and this is the end.


if __name__ == "__main__":
    run_process(main)
