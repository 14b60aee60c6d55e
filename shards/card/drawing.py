"""The pictures of a data card: histograms of labels, and rows of captioned images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards.card.tables import Histogram

INK, MUTED, PAPER, BAR = "#1b1b1f", "#6a6a73", "#ffffff", "#3b6ea5"
_TEXT_PX, _TITLE_PX = 12, 14
_PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 330, 190, 24
_PANELS_A_ROW = 3
_BAR_HEIGHT, _NAME_WIDTH, _COUNT_WIDTH = 15, 110, 60
_MARGIN = 20


@dataclass(frozen=True)
class CaptionedImage:
    """An image and the two short lines below it."""

    image: Image.Image
    first_line: str
    second_line: str = ""


def draw_histograms(histograms: Sequence[Histogram]) -> Image.Image:
    """Panels of bars, three in a row."""
    panels = [_draw_scale(item) if item.is_scale else _draw_names(item) for item in histograms]
    rows = [panels[start : start + _PANELS_A_ROW] for start in range(0, len(panels), _PANELS_A_ROW)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = 2 * _MARGIN + min(len(panels), _PANELS_A_ROW) * (_PANEL_WIDTH + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(heights) + _GAP * (len(rows) - 1)), PAPER)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (_MARGIN + column * (_PANEL_WIDTH + _GAP), top))
        top += height + _GAP
    return sheet


def draw_images(rows: Sequence[tuple[str, Sequence[CaptionedImage]]], cell: int = 96) -> Image.Image:
    """Rows of images, each row under a title; more than eight images wrap to the next line."""
    per_line, step = 8, cell + 2 * (_TEXT_PX + 3) + 8
    # An empty row says "none" in a line of text.
    heights = [-(-len(images) // per_line) * step or 3 * _TEXT_PX for _, images in rows]
    width = 2 * _MARGIN + per_line * (cell + 12) - 12
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(_TITLE_PX + 10 + height for height in heights)), PAPER)
    draw, text, title = _tools(sheet)
    top = _MARGIN
    for (caption, images), height in zip(rows, heights, strict=True):
        draw.text((_MARGIN, top), caption, INK, title)
        top += _TITLE_PX + 10
        if not images:
            draw.text((_MARGIN, top), "none", MUTED, text)
        for position, item in enumerate(images):
            line, column = divmod(position, per_line)
            left, upper = _MARGIN + column * (cell + 12), top + line * step
            sheet.paste(item.image.convert("RGB").resize((cell, cell), Image.Resampling.LANCZOS), (left, upper))
            for number, words in enumerate((item.first_line, item.second_line)):
                y = upper + cell + 3 + number * (_TEXT_PX + 2)
                draw.text((left, y), fitted(words, text, cell + 8), MUTED, text)
        top += height
    return sheet


def fitted(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened at the front (names differ at their ends) until it fits."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(f"…{words}") > width:
        words = words[1:]
    return f"…{words}"


def _draw_names(histogram: Histogram) -> Image.Image:
    height = _TITLE_PX + 10 + _BAR_HEIGHT * len(histogram.names)
    panel = Image.new("RGB", (_PANEL_WIDTH, height), PAPER)
    draw, text, _ = _title(panel, histogram)
    longest = max(int(histogram.counts.max(initial=0)), 1)
    for row, (name, count) in enumerate(zip(histogram.names, histogram.counts.tolist(), strict=True)):
        y = _TITLE_PX + 10 + row * _BAR_HEIGHT
        draw.text((_NAME_WIDTH - 6, y), fitted(name, text, _NAME_WIDTH - 6), INK, text, anchor="ra")
        length = round((_PANEL_WIDTH - _NAME_WIDTH - _COUNT_WIDTH) * count / longest)
        if count:
            draw.rectangle((_NAME_WIDTH, y + 2, _NAME_WIDTH + max(length, 1), y + _BAR_HEIGHT - 4), BAR)
        draw.text((_NAME_WIDTH + length + 6, y), f"{count:,}", MUTED, text)
    return panel


def _draw_scale(histogram: Histogram) -> Image.Image:
    panel = Image.new("RGB", (_PANEL_WIDTH, _PANEL_HEIGHT), PAPER)
    draw, text, _ = _title(panel, histogram)
    top, bottom = _TITLE_PX + 24, _PANEL_HEIGHT - _TEXT_PX - 6
    highest = max(int(histogram.counts.max(initial=0)), 1)
    width = _PANEL_WIDTH / len(histogram.names)
    for column, count in enumerate(histogram.counts.tolist()):
        left = round(column * width)
        upper = bottom - round((bottom - top) * count / highest)
        if count:
            draw.rectangle((left, min(upper, bottom - 1), round(left + width) - 2, bottom), BAR)
    draw.line((0, bottom + 1, _PANEL_WIDTH, bottom + 1), MUTED)
    draw.text((0, _TITLE_PX + 6), f"highest bar: {highest:,}", MUTED, text)
    draw.text((0, bottom + 4), histogram.names[0], MUTED, text)
    draw.text((_PANEL_WIDTH, bottom + 4), histogram.names[-1], MUTED, text, anchor="ra")
    return panel


def _title(panel: Image.Image, histogram: Histogram) -> tuple:
    draw, text, title = _tools(panel)
    draw.text((0, 0), fitted(histogram.title, title, _PANEL_WIDTH - 100), INK, title)
    draw.text((_PANEL_WIDTH, 2), histogram.note, MUTED, text, anchor="ra")
    return draw, text, title


def _tools(image: Image.Image) -> tuple:
    return ImageDraw.Draw(image), ImageFont.load_default(_TEXT_PX), ImageFont.load_default(_TITLE_PX)


def to_image(pixels: np.ndarray) -> Image.Image:
    """A uint8 image (H, W, C) for drawing."""
    return Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).convert("RGB")
