"""The options of ``shards.pack`` that every source has.

Images are stored as JPEG at quality 95 without chroma subsampling unless asked otherwise. Measured on 400 LFW faces at
64x64:

==========  ============  =====================  =======
codec       bytes/image   MSE on [-1, 1] scale   PSNR
==========  ============  =====================  =======
jpg 85      1,880         0.00039                40.1 dB
jpg 95      2,800         0.00018                43.6 dB
jpg 98      3,650         0.00007                47.6 dB
webp 95     1,590         0.00022                42.7 dB
png         7,200         0                      -
raw         12,290        0                      -
==========  ============  =====================  =======

The best autoencoders on these faces reach an MSE of 0.004; quality 95 costs 4 % of that, training and evaluation see
the same pixels, and it decodes four times as fast as PNG (17.0k against 3.9k images/s on one core) at 40 % of the
bytes. Take ``png`` to compare with the original pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    """Folder for the data set, or an address such as s3://bucket/faces: new, empty, or with an interrupted packing.
    Names and labels tell whether the input is the same; after changing images under their old names, pack into a new
    folder."""
    size: int = 64
    """Side of the packed images in pixels."""
    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for gray."""
    crop: str = "auto"
    """What is cut out of the raw image before resizing: auto (the source's own box, else center), center (largest
    square), or left,upper,right,lower in pixels or as fractions; a box that is not square is squeezed into a square."""
    align: TemplateName | None = None
    """Find each face and align it instead of cropping; needs the extra align. lfw and celeba frame faces as those data
    sets are packed by default, facenet as its 160x160 crops, arcface tightly, ffhq as FFHQ was made."""
    align_margin: float = 0.0
    """With --align: widens the picture by this share of its side; 0.1375 turns facenet's 160 pixels into its 182."""
    align_face: FaceChoice = "center"
    """With --align: which of several faces, the one nearest to the center or the largest."""
    without_face: Literal["skip", "crop"] = "skip"
    """With --align: skip images in which no face is found as bad ones, or crop them as without --align."""
    faceless_sheet: Path | None = None
    """With --align: PNG file that shows the images in which no face was found."""
    resize_filter: ResizeFilter = "lanczos"
    """lanczos keeps the most detail; area averages without ringing; none aliases."""
    codec: CodecName = "jpg"
    """How images are stored. jpg is 4:4:4 and decodes fastest by far; png and raw are lossless."""
    quality: int | None = None
    """1 to 100, for jpg and webp; 95 when not given, which costs 0.0002 of MSE on [-1, 1] at 64 pixels."""
    samples_per_shard: int = 1000
    """Largest number of samples in a shard: 3 MB at 64 pixels. Take more for millions of images or remote storage."""
    split_by: SplitBy = "auto"
    """partition is the data set's own; identity puts no person into two splits; sample splits image by image. auto
    takes the first of the three that the source has."""
    val_fraction: float = 0.1
    """Share of images for validation; not used with a partition."""
    test_fraction: float = 0.1
    """Share of images for the final test; not used with a partition."""
    seed: int = 0
    """Determines the splits, the order of samples, and what a rendering source draws."""
    max_skipped_fraction: float = 0.05
    """Packing fails when more than this share of the images is bad."""
    workers: int | None = None
    """Processes; the number of cores, of the whole cluster with --address, when not given. The data set does not depend
    on it."""
    address: str | None = None
    """Ray cluster whose machines write the shards: auto, or host:port of its head. They need the same packages, and
    input and output under the same paths. Needs the extra tuning."""

    def __post_init__(self) -> None:
        """Checks what can be checked without the source.

        Raises:
            ValueError: A value out of range.
        """
        for name, least in (("size", 1), ("samples_per_shard", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}.")
        if not 0 <= self.max_skipped_fraction <= 1:
            raise ValueError(f"max_skipped_fraction must be between 0 and 1, not {self.max_skipped_fraction}.")
        Fractions(self.val_fraction, self.test_fraction)
        _ = self.codec_options  # Checks them.
        parse_crop(self.crop, None)
        self._check_alignment()

    @property
    def alignment(self) -> Alignment | None:
        """How faces are aligned; None if they are not."""
        if self.align is None:
            return None
        return Alignment(self.align, self.align_margin, self.align_face, self.without_face)

    def _check_alignment(self) -> None:
        if self.align is None:
            given = (self.align_margin, self.align_face, self.without_face, self.faceless_sheet)
            if given != (0.0, "center", "skip", None):
                raise ValueError("align_margin, align_face, without_face and faceless_sheet need --align TEMPLATE.")
        elif self.crop != "auto" and self.without_face == "skip":
            raise ValueError(f"--crop {self.crop} has no effect with --align; omit it, or pass --without_face crop.")
        _ = self.alignment  # Checks its values.

    @property
    def codec_options(self) -> dict[str, Any]:
        """The codec's settings with the default quality filled in."""
        return find_codec(self.codec).settings(quality=self.quality)
