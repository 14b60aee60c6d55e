"""The data card: what a data set holds, as one self-contained page and as pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from shards.base.files import write_bytes
from shards.card.drawing import CaptionedImage, draw_histograms, draw_images, to_image
from shards.card.duplicates import MAX_DISTANCE, MIN_CORRELATION, Duplicates, find_duplicates
from shards.card.outliers import MIN_SCORE, Outliers, find_outliers
from shards.card.pixel_measures import HASH_BITS, THUMBNAIL, Measures, measure
from shards.card.tables import GENDER_NAMES, SMILE_NAMES, CrossTable, all_values, cross_table, find_label, histogram
from shards.dataset.dataset import Dataset
from shards.loading.reader import Reader

PAGE = "card.html"
_TEMPLATES = Path(__file__).parent / "templates"
_NUM_SHOWN_PAIRS, _NUM_SHOWN_OUTLIERS = 24, 8


@dataclass(frozen=True)
class CardPicture:
    """One picture of the card."""

    file: str
    title: str
    caption: str
    image: Image.Image


@dataclass(frozen=True)
class Card:
    """The content of a data card.

    Attributes:
        facts: Lines of text about format, splits and labels.
        num_images: Number of measured images.
        table: Gender against smile; None if the data set lacks one of them.
        duplicates: Number of pairs that look alike, by where they are.
        outliers: Number of outliers, by kind.
        pictures: In the order of the page.
    """

    facts: Sequence[str]
    num_images: int
    table: CrossTable | None
    duplicates: dict[str, int]
    outliers: dict[str, int]
    pictures: Sequence[CardPicture]

    def lines(self) -> list[str]:
        """The findings as text."""
        lines = [f"Pairs of images that look alike, {name}: {num:,}" for name, num in self.duplicates.items()]
        lines += [f"Outliers, {name.lower()}: {num:,} of {self.num_images:,}" for name, num in self.outliers.items()]
        if self.table is not None:
            lines.append(f"{self.table.row_label} x {self.table.column_label}:")
            for name, counts in zip(self.table.rows, self.table.counts.tolist(), strict=True):
                cells = ", ".join(
                    f"{column} {count:,}" for column, count in zip(self.table.columns, counts, strict=True)
                )
                lines.append(f"  {name}: {cells}")
        return lines


def make_card(
    dataset: Dataset, facts: Sequence[str], gender: str | None, smile: str | None, max_images: int, sheet: Image.Image
) -> Card:
    """Measures the images and draws the pictures.

    Args:
        dataset: The data set.
        facts: Lines of text for the head of the page.
        gender: Label of the table's rows; None finds one by its name.
        smile: Label of the table's columns; None finds one by its name.
        max_images: Largest number of images to measure.
        sheet: The contact sheet.

    Raises:
        UserError: A label that the data set does not have, or a damaged shard.
    """
    rows, columns = find_label(dataset, gender, GENDER_NAMES), find_label(dataset, smile, SMILE_NAMES)
    table = cross_table(dataset, rows, columns) if rows and columns else None
    measures = measure(dataset, max_images)
    pairs = find_duplicates(measures, _NUM_SHOWN_PAIRS)
    outliers = find_outliers(measures)
    pictures = [CardPicture("sheet.png", "Images", "Spread evenly over each split.", sheet)]
    if dataset.fields:
        histograms = [histogram(name, label, all_values(dataset, name)) for name, label in dataset.fields.items()]
        pictures.append(
            CardPicture("labels.png", "Labels", "Images by the value of each label.", draw_histograms(histograms))
        )
    pictures += [_pairs_picture(dataset, measures, pairs), _outliers_picture(dataset, measures, outliers)]
    return Card(
        facts=facts,
        num_images=len(measures),
        table=table,
        duplicates={"within a split": pairs.within.num, "across splits": pairs.across.num},
        outliers={kind.title: kind.num for kind in outliers},
        pictures=pictures,
    )


def write_card(card: Card, title: str, folder: Path) -> Path:
    """Writes the page and, beside it, the pictures that it embeds; the folder exists.

    Returns:
        Path of the page.

    Raises:
        OSError: The folder cannot be written to.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    embedded = []
    for picture in card.pictures:
        buffer = BytesIO()
        picture.image.save(buffer, "PNG", optimize=True)
        write_bytes(folder / picture.file, buffer.getvalue(), durable=False)
        embedded.append((picture, base64.b64encode(buffer.getvalue()).decode()))
    method = (
        f"Alike: perceptual hashes differ in at most {MAX_DISTANCE} of {HASH_BITS} bits, and thumbnails of "
        f"{THUMBNAIL}x{THUMBNAIL} pixels correlate by {MIN_CORRELATION} or more. Outlier: robust z-score beyond "
        f"{MIN_SCORE}."
    )
    template = environment.get_template("card.html.j2")
    page = template.render(title=title, card=card, pictures=embedded, method=method)
    write_bytes(folder / PAGE, page.encode(), durable=False)
    return folder / PAGE


def _pairs_picture(dataset: Dataset, measures: Measures, pairs: Duplicates) -> CardPicture:
    rows = []
    for name, found in (("across splits", pairs.across), ("within a split", pairs.within)):
        positions = np.stack([found.first, found.second], axis=1).reshape(-1)
        notes = [f"{value:.3f}" for value in np.repeat(found.correlation, 2)]
        more = f", the first {len(found.first)}" if len(found.first) < found.num else ""
        rows.append((f"{found.num:,} pairs {name}{more}", _captioned(dataset, measures, positions, notes)))
    caption = "Side by side, with the correlation of their thumbnails."
    return CardPicture("duplicates.png", "Images that look alike", caption, draw_images(rows))


def _outliers_picture(dataset: Dataset, measures: Measures, outliers: Sequence[Outliers]) -> CardPicture:
    rows = []
    for kind in outliers:
        positions = kind.positions[:_NUM_SHOWN_OUTLIERS]
        notes = [f"{value:.4g}" for value in kind.values[:_NUM_SHOWN_OUTLIERS]]
        rows.append((f"{kind.title}: {kind.num:,} outliers", _captioned(dataset, measures, positions, notes)))
    caption = "The most extreme, whether they are outliers or not, with their brightness (0 to 255) or sharpness."
    return CardPicture("outliers.png", "Brightness and sharpness", caption, draw_images(rows))


def _captioned(
    dataset: Dataset, measures: Measures, positions: np.ndarray, notes: Sequence[str]
) -> list[CaptionedImage]:
    images = []
    readers = {split: Reader(dataset, split) for split in dataset.splits}
    image = dataset.image
    for position, note in zip(positions.tolist(), notes, strict=True):
        split, row = dataset.splits[measures.split[position]], int(measures.row[position])
        pixels = np.empty((1, image.height, image.width, image.channels), np.uint8)
        readers[split].read_images(np.array([row]), pixels)
        images.append(CaptionedImage(to_image(pixels[0]), dataset.key(split, row), f"{split}, {note}"))
    return images
