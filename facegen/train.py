"""Training: ``accelerate launch facegen/train.py FAMILY --data DIR --run RUN [--option x]``, or ``facegen.train``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A script's own folder comes first on sys.path, or the current one; the project's root must, so that `facegen` is the
# package.
if __name__ == "__main__":
    sys.path[: 0 if sys.flags.safe_path else 1] = [str(Path(__file__).resolve().parent.parent)]
    from facegen.processes.launcher import stop_with_launcher

    stop_with_launcher()  # Now, since the imports below take seconds.

    from facegen.options import TrainConfig
    from shards.command_line.typos import refuse_typos

    refuse_typos(TrainConfig, sys.argv[2:], unseen=("family", "model"))

from typing import Any, NamedTuple

from facegen.config import make_config, parse_args
from facegen.options import TrainConfig
from facegen.processes import preemption
from facegen.processes.failures import TrainingFailed
from facegen.processes.group import let_first_speak, run_process, tell_of_lost
from facegen.training.trainer import Trainer
from shards.base.errors import ENDING, UserError
from shards.base.printing import lasting_output
from shards.command_line.cli import fail


class Trained(NamedTuple):
    """Where a training stands."""

    run: Path
    """The run directory, for ``facegen.load``."""
    images_seen: int
    """Training images seen, repeats included."""
    finished: bool
    """False where a signal stopped it behind a complete checkpoint; train again to resume."""


def train(what: TrainConfig | str | os.PathLike[str], **options: Any) -> Trained:
    """Trains a run to its end, from its newest checkpoint where it has one.

    It does what the command does, with the device and the processes that accelerate finds: in a notebook one process,
    in a script under ``accelerate launch`` all of them.

        facegen.train("vae_demo", data="data/faces", run="runs/vae", max_epochs=10)

    Args:
        what: A config; or the family, preset or YAML file that ``make_config`` takes.
        options: As ``make_config``; none beside a config.

    Raises:
        UserError: Options, data or an earlier run that do not go together.
        TrainingFailed: A loss that is not finite, or a checkpoint that cannot be written.
    """
    if isinstance(what, str | os.PathLike):
        what = make_config(what, **options)
    elif options:
        raise UserError(f"give {', '.join(options)} to the config, as facegen.make_config does.")
    trainer = Trainer(what)
    exit_code = trainer.fit()
    return Trained(Path(what.run), trainer.images_seen, finished=exit_code == 0)


def main() -> int:
    """Parses, builds, trains; returns the exit code: 0, 1 training failed, 2 bad input, 143 preempted."""
    with lasting_output():
        return _main()


def _main() -> int:
    trainer = None
    try:
        trainer = Trainer(parse_args(sys.argv[1:]))
        code = trainer.fit()
        trainer.accelerator.end_training()
        return code
    except UserError as error:
        if trainer is None:
            let_first_speak()
        fail(str(error))
    except TrainingFailed as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        tell_of_lost(error, "the checkpoints are intact: rerun the command")
        return 1
    finally:
        ENDING.set()
        preemption.ignore_stop()  # The launcher asks the others to stop when one has ended, and this is the end.


if __name__ == "__main__":
    run_process(main)
