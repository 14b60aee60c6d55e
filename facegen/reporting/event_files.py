"""TensorBoard's event files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from torch import Tensor


class EventFiles:
    """Writes events into a run directory; without one, nothing, and TensorBoard is not imported."""

    def __init__(self, run: Path | None, images_seen: int) -> None:
        """Continues the events of a run at ``images_seen``."""
        self._writer = None
        if run is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        # Without purge_step TensorBoard would draw the dropped steps of a resumed run over the new ones, also in a run
        # that was killed before its first checkpoint and starts again at 0.
        self._writer = SummaryWriter(str(run), purge_step=images_seen + 1)

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Writes named numbers."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, images_seen)

    def histogram(self, name: str, values: Tensor, images_seen: int) -> None:
        """Writes the distribution of a tensor."""
        if self._writer:
            self._writer.add_histogram(name, values, images_seen)

    def text(self, name: str, text: str, images_seen: int) -> None:
        """Writes a text."""
        if self._writer:
            self._writer.add_text(name, text, images_seen)

    def picture(self, name: str, image: Tensor, images_seen: int) -> None:
        """Writes a picture, uint8 height x width x C."""
        if self._writer:
            self._writer.add_image(name, image.numpy(), images_seen, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the file.

        Raises:
            OSError: Something could not be written, now or earlier in the background.
        """
        if self._writer:
            with closing(self._writer):
                self._writer.flush()  # Unlike close, it raises what the writing thread met.
