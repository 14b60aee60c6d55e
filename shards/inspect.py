"""``python -m shards.inspect DIR``: what a data set holds, as text, contact sheet and data card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.base.files import check_writable, output_folder, replacing, writing_to
from shards.card.data_card import make_card, write_card
from shards.command_line.cli import parse, run
from shards.dataset.dataset import Dataset
from shards.dataset.manifest import LabelField
from shards.images.codecs import decode
from shards.loading.reader import Reader

_NUM_TOP_CLASSES = 5
_COLUMNS = 12
_ROWS = {"train": 5, "val": 2, "test": 2}
_GAP_PX = 4
_MARGIN_PX = 16
_TITLE_PX = 18
_TEXT_PX = 13
_INK, _MUTED, _PAPER = "#1b1b1f", "#6a6a73", "#ffffff"


@dataclass
class InspectConfig:
    """Options of ``shards.inspect``."""

    root: str
    """Folder of the data set, or its address."""
    out: Path | None = None
    """PNG file for a contact sheet of images spread evenly over each split."""
    card: Path | None = None
    """Folder for a data card: card.html and PNGs with histograms of the labels, a table of gender and smile, duplicate
    images, and images that are dark, bright or blurred."""
    gender: str | None = None
    """Label of the card's table; Male, gender or presentation when not given."""
    smile: str | None = None
    """Label of the card's table; Smiling or smile when not given."""
    max_images: int = 200_000
    """Most images that the card looks at, spread evenly over the splits; the time to find duplicates grows with their
    square."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number of images below 1."""
        if self.max_images < 1:
            raise ValueError(f"max_images must be 1 or more, not {self.max_images}.")


def describe(dataset: Dataset) -> list[str]:
    """Lines of text: format, splits, labels with short statistics, and what was skipped."""
    manifest, image = dataset.manifest, dataset.image
    options = "".join(f" {name} {value}" for name, value in image.codec_options.items())
    num_images = sum(shard.num_samples for shard in manifest.shards)
    lines = [
        f"{dataset.address}: {manifest.name}, {num_images:,} images {image.width}x{image.height}x{image.channels}, "
        f"{image.extension}{options}, fingerprint {dataset.fingerprint}",
        "",
        f"{'split':8}{'images':>12}{'share':>8}{'shards':>8}{'MB':>10}{'bytes/image':>13}"
        + ("  identities" if manifest.identity_field else ""),
    ]
    lines += [_split_line(dataset, split, num_images) for split in dataset.splits]
    made_by = ", ".join(f"{name} {_plain(value)}" for name, value in manifest.split.items() if value is not None)
    lines += ["", f"Splits: {made_by}", "", "Labels:" if manifest.fields else "Labels: none"]
    width = max((len(name) for name in manifest.fields), default=0)
    for name, label in manifest.fields.items():
        column = np.concatenate([dataset.labels(name, split) for split in dataset.splits])
        lines.append(f"  {name:{width}}  {label.kind:5}  {describe_label(label, column)}")
    return [*lines, "", *_provenance_lines(dataset)]


def describe_label(label: LabelField, column: np.ndarray) -> str:
    """Statistics of one label.

    Args:
        label: The field.
        column: Its values for all samples, as stored (N,).
    """
    present = column[~np.isnan(column)] if label.kind == "float" else column[column >= 0]
    missing = f", {len(column) - len(present):,} missing" if len(present) < len(column) else ""
    if not len(present):
        return f"no values{missing}"
    if label.kind == "float":
        return f"mean {present.mean(dtype=np.float64):.3g}, min {present.min():.3g}, max {present.max():.3g}{missing}"
    if label.kind == "bool":
        return f"{present.mean():.1%} true{missing}"
    counts = np.bincount(present, minlength=len(label.classes))
    top = np.argsort(-counts, kind="stable")[:_NUM_TOP_CLASSES]
    names = ", ".join(f"{label.classes[position]} {counts[position]:,}" for position in top if counts[position])
    more = ", ..." if (counts > 0).sum() > _NUM_TOP_CLASSES else ""
    return f"{len(label.classes):,} classes: {names}{more}{missing}"


def contact_sheet(dataset: Dataset) -> Image.Image:
    """Draws images of each split, spread evenly over its rows, under a title line."""
    cell = min(max(dataset.image.width, 64), 128)
    pictures = {split: _pictures(dataset, split) for split in dataset.splits}
    columns = min(_COLUMNS, max(len(images) for images in pictures.values()))
    # Leaves room for the title where there are few images.
    width = max(2 * _MARGIN_PX + columns * (cell + _GAP_PX) - _GAP_PX, 560)
    heights = {
        split: -(-len(images) // columns) * (cell + _GAP_PX) + 2 * _TEXT_PX for split, images in pictures.items()
    }
    sheet = Image.new("RGB", (width, 2 * _MARGIN_PX + 2 * _TITLE_PX + sum(heights.values())), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, text = ImageFont.load_default(_TITLE_PX), ImageFont.load_default(_TEXT_PX)
    image = dataset.image
    draw.text((_MARGIN_PX, _MARGIN_PX), dataset.manifest.name, _INK, title)
    facts = f"{image.width}x{image.height}x{image.channels} {image.extension}, fingerprint {dataset.fingerprint}"
    draw.text((width - _MARGIN_PX, _MARGIN_PX + 4), facts, _MUTED, text, anchor="ra")
    top = _MARGIN_PX + 2 * _TITLE_PX
    for split, images in pictures.items():
        draw.text((_MARGIN_PX, top), f"{split}: {len(images)} of {dataset.num_samples(split):,} images", _MUTED, text)
        for position, picture in enumerate(images):
            row, column = divmod(position, columns)
            corner = (_MARGIN_PX + column * (cell + _GAP_PX), top + int(1.5 * _TEXT_PX) + row * (cell + _GAP_PX))
            sheet.paste(picture.resize((cell, cell), Image.Resampling.LANCZOS), corner)
        top += heights[split]
    return sheet


def _pictures(dataset: Dataset, split: str) -> list[Image.Image]:
    num_samples = dataset.num_samples(split)
    num_shown = min(num_samples, _COLUMNS * _ROWS[split])
    rows = np.linspace(0, num_samples - 1, num_shown).round().astype(np.int64)
    return [
        Image.fromarray(decode(data, dataset.image).squeeze()).convert("RGB")
        for data in Reader(dataset, split).read(rows)
    ]


def _split_line(dataset: Dataset, split: str, num_images: int) -> str:
    shards, num_samples = dataset.shards(split), dataset.num_samples(split)
    num_bytes = sum(shard.num_bytes for shard in shards)
    line = (
        f"{split:8}{num_samples:>12,}{num_samples / num_images:>8.1%}{len(shards):>8,}{num_bytes / 1e6:>10,.1f}"
        f"{dataset.column('size', split).mean():>13,.0f}"
    )
    if dataset.manifest.identity_field:
        persons = dataset.labels(dataset.manifest.identity_field, split)
        line += f"{len(np.unique(persons[persons >= 0])):>12,}"
    return line


def _provenance_lines(dataset: Dataset) -> Iterator[str]:
    provenance = dataset.manifest.provenance
    options = provenance.get("options")
    if options:
        yield f"Packed with: {', '.join(f'{name} {_plain(value)}' for name, value in options.items())}"
    notes = [*provenance.get("input", {}).get("notes", ()), *provenance.get("notes", ())]
    yield from (f"Note: {note}" for note in notes)
    skipped = provenance.get("skipped")
    if skipped is not None:
        yield f"Skipped inputs: {skipped['num']}"
        for reason, found in skipped["reasons"].items():
            more = ", ..." if found["num"] > len(found["first"]) else ""
            yield f"  {reason}: {found['num']} ({', '.join(found['first'])}{more})"
    if provenance.get("num_enlarged"):
        yield f"Enlarged from less than {dataset.image.width} pixels after the crop: {provenance['num_enlarged']}"


def _plain(value: object) -> str:
    """A JSON value in few characters; fractions of a crop box are rounded."""
    if isinstance(value, dict):
        return " ".join(f"{name} {_plain(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return "(" + ", ".join(_plain(part) for part in value) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse(
        InspectConfig,
        prog="python -m shards.inspect",
        description="Prints what a data set holds; draws a contact sheet, writes a data card.",
        positional=("root",),
        args=args,
    )
    dataset = Dataset(config.root)
    if config.out is not None:
        check_writable(config.out, "give another file name")
    if config.card is not None:
        output_folder(config.card, "give another folder")
    facts = describe(dataset)
    print("\n".join(facts))
    if config.out is not None:
        with writing_to(config.out), replacing(config.out, durable=False) as temporary:
            contact_sheet(dataset).save(temporary, "PNG")
        print(f"Contact sheet: {config.out}")
    if config.card is not None:
        # Cards may be passed on: they do not say where the data set is.
        facts[0] = facts[0].removeprefix(f"{dataset.address}: ")
        card = make_card(dataset, facts, config.gender, config.smile, config.max_images, contact_sheet(dataset))
        print("\n".join(["", *card.lines()]))
        with writing_to(f"to {config.card}"):
            page = write_card(card, dataset.manifest.name, config.card)
        print(f"Data card: {page}")


if __name__ == "__main__":
    run(main)
