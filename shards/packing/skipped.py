"""The images that could not be packed: counted by reason and named; those without a face as a sheet."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from shards.base.errors import UserError
from shards.base.files import replacing, writing_to
from shards.images.reading import to_mode
from shards.packing.shard import ShardResult

_NUM_NAMED = 10
_NUM_DRAWN, _CELL_PX = 64, 96


def summarize_skipped(results: Sequence[ShardResult]) -> dict[str, Any]:
    """Counts bad images by reason and names the first of each."""
    pairs = sorted((reason, name) for result in results for name, reason in result.skipped)
    counts = Counter(reason for reason, _ in pairs)
    return {
        "num": len(pairs),
        "reasons": {
            reason: {"num": count, "first": [name for other, name in pairs if other == reason][:_NUM_NAMED]}
            for reason, count in sorted(counts.items())
        },
    }


def check_skipped(results: dict[str, ShardResult], num_items: int, max_fraction: float) -> None:
    """Checks the share of bad images.

    Raises:
        UserError: More than ``max_fraction`` of all items; they are printed first.
    """
    num_skipped = sum(len(result.skipped) for result in results.values())
    if num_skipped > max_fraction * num_items:
        print_skipped(summarize_skipped(list(results.values())))
        raise UserError(
            f"{num_skipped} of {num_items} images are bad, more than --max_skipped_fraction {max_fraction:g} allows; "
            "fix the input, or rerun the command with a higher fraction (finished shards are kept)."
        )


def print_skipped(skipped: dict[str, Any]) -> None:
    """Prints a line for each reason."""
    for reason, found in skipped["reasons"].items():
        more = ", ..." if found["num"] > len(found["first"]) else ""
        print(f"Skipped, {reason}: {found['num']} ({', '.join(found['first'])}{more})")


def save_faceless_sheet(
    path: Path, pictures: Iterable[tuple[str, Image.Image | np.ndarray]], num: int, total: int
) -> None:
    """Draws the first 64 images in which no face was found.

    Args:
        path: PNG file.
        pictures: Name and image of each.
        num: How many there are.
        total: In how many images a face was looked for.

    Raises:
        UserError: The file cannot be written.
    """
    # Imported here: drawing is rarely asked for, and packing should start fast.
    from shards.card.drawing import CaptionedImage, draw_images

    images = []
    for name, image in itertools.islice(pictures, _NUM_DRAWN):
        picture = Image.fromarray(image.squeeze()) if isinstance(image, np.ndarray) else image
        images.append(CaptionedImage(ImageOps.pad(to_mode(picture, "RGB"), (_CELL_PX, _CELL_PX), color="white"), name))
    more = f", the first {_NUM_DRAWN}" if num > _NUM_DRAWN else ""
    title = f"No upright face was found in {num:,} of {total:,} images{more}"
    with writing_to(path, "give another file name"), replacing(path, durable=False) as temporary:
        draw_images([(title, images)], _CELL_PX).save(temporary, "PNG")
    print(f"Images without a face: {path}")
