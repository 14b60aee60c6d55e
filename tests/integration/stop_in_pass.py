"""Trains, and asks the last rank alone to stop in the middle of a pass over held-out images: started by a launcher.

Usage: stop_in_pass.py IMAGES_SEEN FAMILY [options of facegen/train.py]. The signal comes while the first images are
encoded after IMAGES_SEEN images.
"""

from __future__ import annotations

import os
import signal
import sys

from facegen.config import parse_args
from facegen.trainer import Trainer


def main() -> int:
    """Trains until the signal."""
    trainer = Trainer(parse_args(sys.argv[2:]))
    accelerator, encode = trainer.accelerator, trainer.family.posterior

    def posterior(images, labels):
        if trainer.images_seen == int(sys.argv[1]) and accelerator.is_last_process:
            os.kill(os.getpid(), signal.SIGTERM)
        return encode(images, labels)

    trainer.family.posterior = posterior
    return trainer.fit()


if __name__ == "__main__":
    sys.exit(main())
