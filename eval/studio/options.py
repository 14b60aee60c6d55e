"""Options of the studio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from eval.latent.photo_framing import AlignChoice, check_align


@dataclass(kw_only=True)
class StudioConfig:
    """Options of the studio."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories; RUN:NAME samples with a sampler fitted to it.
    A run without a snapshot shows its training only."""
    data: str | None = None
    """Packed data set: faces to pick, and to fit components and attributes to. Without it, sliders are single dims."""
    attributes: list[str] = field(default_factory=list)
    """Files of eval.attributes fit: attribute vectors, besides those of the labels of --data."""
    align: AlignChoice = "auto"
    """Align the faces of uploaded photos by this template; auto takes the framing of each run's training data where a
    template has it. Needs the extra align. Photos can be framed by hand, too."""
    align_margin: float = 0.0
    """With --align TEMPLATE: the margin that the data was packed with."""
    port: int = 7860
    """Port; 0 takes any free one."""
    share: bool = False
    """Serve other machines on the network, too. Asks for a password, or takes it from FACEGEN_STUDIO_PASSWORD. The
    connection is not encrypted: on a network you do not trust, use a proxy with TLS or an SSH tunnel."""
    tensorboard: str | None = None
    """Address of a TensorBoard to link to, such as http://localhost:6006."""
    report: str | None = None
    """report.html of eval.report to link to."""
    open_browser: bool = True
    """Open the page in a browser, where there is a screen."""
    device: Literal["auto", "cpu"] = "cpu"
    """auto takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        if not self.runs:
            raise ValueError("give at least one run.")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, not {self.port}.")
        check_align(self.align, self.align_margin)
        if self.tensorboard is not None and urlsplit(self.tensorboard).scheme not in ("http", "https"):
            raise ValueError(f"tensorboard is {self.tensorboard}; it must begin with http:// or https://.")
