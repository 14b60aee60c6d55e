"""``python -m shards.align IN OUT``: aligned copies of the faces in a folder.

``shards.pack --align`` aligns faces while packing them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.base.errors import UserError
from shards.base.files import make_folder, write_bytes, writing_to
from shards.base.progress import ProgressLine
from shards.command_line.cli import parse, run
from shards.execution.dispatch import choose_executor, run_tasks
from shards.execution.executor import OnItem
from shards.images.alignment import FACELESS, NO_FACE, Alignment, TemplateName, prepare_aligned
from shards.images.codecs import encode
from shards.images.detector import FaceChoice, require_detector
from shards.images.reading import BadImage, Preparation, open_image
from shards.packing.skipped import save_faceless_sheet
from shards.sources.files.listing import list_files, unique_keys

_COPIES_PER_TASK = 16


@dataclass
class AlignConfig:
    """Options of ``shards.align``."""

    input: Path
    """Folder of images, searched recursively."""
    output: Path
    """Folder for the copies, under the same relative paths; copies that exist are kept."""
    size: int = 160
    """Side of the copies in pixels."""
    template: TemplateName = "facenet"
    """Where the eyes, the nose and the mouth go: lfw and celeba frame faces as those data sets are packed by default,
    facenet as in its 160x160 crops, arcface tightly, ffhq as FFHQ was made."""
    margin: float = 0.0
    """Widens the picture by this share of its side; 0.1375 turns facenet's 160 pixels into its 182."""
    face: FaceChoice = "center"
    """Which one of several faces: the one nearest to the center, or the largest one."""
    without_face: Literal["skip", "crop"] = "skip"
    """Images without a face are left out, or their largest centered square is copied."""
    faceless_sheet: Path | None = None
    """PNG file that shows the images without a face."""
    format: Literal["png", "jpg"] = "png"
    """Format of the copies; jpg has quality 95."""
    workers: int | None = None
    """Processes; the number of cores, of the whole cluster with --address, when not given."""
    address: str | None = None
    """Ray cluster whose machines align: auto, or host:port of its head. They need the same packages, and input and
    output under the same paths. Needs the extra tuning."""

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: A value out of range.
        """
        for name, least in (("size", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}.")
        _ = self.alignment

    @property
    def alignment(self) -> Alignment:
        """How faces are aligned."""
        return Alignment(self.template, self.margin, self.face, self.without_face)


@dataclass(frozen=True)
class _Copy:
    """One image to align."""

    source: Path
    target: Path
    size: int
    alignment: Alignment


def align_folder(config: AlignConfig) -> Counter[str]:
    """Aligns all images of a folder.

    Returns:
        How many images were ``aligned``, were ``there already``, or were skipped for each reason.

    Raises:
        UserError: No images, an output inside the input, or one that cannot be written to.
    """
    if not config.input.is_dir():
        raise UserError(f"{config.input} is not a folder; give the folder that holds the images.")
    if config.output.resolve().is_relative_to(config.input.resolve()):
        raise UserError(f"the output {config.output} lies inside the input {config.input}; give a folder outside it.")
    require_detector()
    files = list_files(config.input)[0]
    if not files:
        raise UserError(f"{config.input} holds no image files; give the folder that holds the images.")
    targets = [config.output / f"{key}.{config.format}" for key in unique_keys(files)]
    copies = [
        _Copy(config.input / file, target, config.size, config.alignment)
        for file, target in zip(files, targets, strict=True)
        if not target.exists()
    ]
    counts: Counter[str] = Counter({"there already": len(files) - len(copies)} if len(copies) < len(files) else {})
    faceless = []
    batches = list(_batches(copies))
    executor = choose_executor(config.workers, len(batches), config.address)
    with (
        ProgressLine("aligning", len(copies)) as progress,
        closing(run_tasks(executor, _align_files, batches, progress.update, config.output)) as results,
    ):
        for outcomes in results:
            counts.update(outcome for _, outcome in outcomes)
            faceless += [path for path, outcome in outcomes if outcome.startswith(FACELESS)]
    if config.faceless_sheet is not None:
        pictures = ((path.relative_to(config.input).as_posix(), open_image(path)) for path in sorted(faceless))
        save_faceless_sheet(config.faceless_sheet, pictures, len(faceless), len(copies))
    return counts


def _batches(copies: Sequence[_Copy]) -> Iterator[Sequence[_Copy]]:
    for start in range(0, len(copies), _COPIES_PER_TASK):
        yield copies[start : start + _COPIES_PER_TASK]


def _align_files(copies: Sequence[_Copy], on_item: OnItem) -> list[tuple[Path, str]]:
    """The image of each copy, and what became of it."""
    outcomes = []
    for copy in copies:
        outcomes.append((copy.source, _align_file(copy)))
        on_item()
    return outcomes


def _align_file(copy: _Copy) -> str:
    try:
        preparation = Preparation(copy.size, 3, None, "lanczos")
        pixels, _, has_face = prepare_aligned(open_image(copy.source), preparation, copy.alignment)
    except BadImage as error:
        return error.reason
    make_folder(copy.target.parent)
    with writing_to(copy.target, "fix this, then rerun the command"):
        write_bytes(copy.target, encode(pixels, copy.target.suffix[1:]), durable=False)
    return "aligned" if has_face else f"{NO_FACE}, cropped"


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        AlignConfig,
        prog="python -m shards.align",
        description="Finds the face in each image of a folder and writes an aligned copy.",
        positional=("input", "output"),
        args=args,
    )
    counts = align_folder(config)
    print(", ".join(f"{outcome}: {num:,}" for outcome, num in sorted(counts.items())))
    if not counts["aligned"] and not counts["there already"]:
        raise UserError(f"no face was found in {config.input}; check the images.")


if __name__ == "__main__":
    run(main)
