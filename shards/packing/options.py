"""The options of ``shards.pack`` that every source has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shards.dataset.remote import refuse_address
from shards.images.alignment import Alignment, TemplateName
from shards.images.codecs import CodecName, find_codec
from shards.images.detector import FaceChoice
from shards.images.reading import ResizeFilter, parse_crop
from shards.packing.plan import SplitBy
from shards.packing.splits import Fractions


@dataclass(kw_only=True)
class PackOptions:
    """Options of every source."""

    output: Path
    """Folder for the data set; new, empty, or one whose packing was interrupted. Names and labels tell whether the
    input is still the same; after changing images under their old names, pack into a new folder."""
    size: int = 64
    """Side of the packed images in pixels."""
    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for gray."""
    crop: str = "auto"
    """What is cut out of the raw image before resizing: auto (the source's own box, else center), center (largest
    square), or left,upper,right,lower in pixels or as fractions; a box that is no square is squeezed into one."""
    align: TemplateName | None = None
    """Find each face and bring it to one place instead of cropping; needs the extra align. lfw and celeba frame faces
    as those data sets are packed by default, facenet as its 160x160 crops, arcface tightly, ffhq as FFHQ was made."""
    align_margin: float = 0.0
    """With --align: widens the picture by this share of its side; 0.1375 turns facenet's 160 pixels into its 182."""
    align_face: FaceChoice = "center"
    """With --align: which one of several faces, the one nearest to the center or the largest."""
    without_face: Literal["skip", "crop"] = "skip"
    """With --align: images in which no face is found are skipped as bad ones, or cropped as without --align."""
    faceless_sheet: Path | None = None
    """With --align: PNG file that shows the images in which no face was found."""
    resize_filter: ResizeFilter = "lanczos"
    """lanczos keeps the most detail; area averages without ringing; none of them aliases."""
    codec: CodecName = "jpg"
    """How images are stored. jpg is 4:4:4 and decodes fastest by far; png and raw are lossless."""
    quality: int | None = None
    """1 to 100, for jpg and webp; 95 when not given, which costs 0.0002 of MSE on [-1, 1] at 64 pixels."""
    samples_per_shard: int = 1000
    """Most samples of a shard: 3 MB at 64 pixels. Take more for millions of images or remote storage."""
    split_by: SplitBy = "auto"
    """partition is the data set's own; identity keeps a person on one side; sample looks at nothing. auto takes the
    first of the three that the source has."""
    val_fraction: float = 0.1
    """Share of images for validation; not used with a partition."""
    test_fraction: float = 0.1
    """Share of images for the final test; not used with a partition."""
    seed: int = 0
    """Fixes the splits and the order of samples, and what a rendering source draws."""
    max_skipped_fraction: float = 0.05
    """Packing fails when more than this share of the images is bad."""
    workers: int | None = None
    """Processes; the number of cores when not given. The data set does not depend on it."""

    def __post_init__(self) -> None:
        """Checks what can be checked without the source.

        Raises:
            ValueError: A value out of range.
        """
        refuse_address(self.output, "pack into a folder of this machine, then copy it there")
        for name, least in (("size", 1), ("samples_per_shard", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}.")
        if not 0 <= self.max_skipped_fraction <= 1:
            raise ValueError(f"max_skipped_fraction must be between 0 and 1, not {self.max_skipped_fraction}.")
        Fractions(self.val_fraction, self.test_fraction)
        _ = self.codec_options  # checks them
        parse_crop(self.crop, None)
        self._check_alignment()

    @property
    def alignment(self) -> Alignment | None:
        """How faces are aligned; None where they are not."""
        if self.align is None:
            return None
        return Alignment(self.align, self.align_margin, self.align_face, self.without_face)

    def _check_alignment(self) -> None:
        if self.align is None:
            given = (self.align_margin, self.align_face, self.without_face, self.faceless_sheet)
            if given != (0.0, "center", "skip", None):
                raise ValueError("align_margin, align_face, without_face and faceless_sheet need --align TEMPLATE.")
        elif self.crop != "auto" and self.without_face == "skip":
            raise ValueError(f"--crop {self.crop} cuts nothing with --align; leave it, or pass --without_face crop.")
        _ = self.alignment  # checks its values

    @property
    def codec_options(self) -> dict[str, Any]:
        """The codec's settings with the default quality filled in."""
        return find_codec(self.codec).settings(quality=self.quality)
