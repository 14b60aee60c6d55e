"""Line and scatter charts as pictures, in the light theme, for places that show no SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from PIL import Image, ImageColor, ImageDraw, ImageFont

SHARPNESS = 2
"""Pixels for each unit of the SVG."""
_SMOOTHING = 2
"""Shapes are drawn this much larger and shrunk, which smooths their edges."""
_FONT_SIZE = 12
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_WIDTHS = {"rule": 1.0, "line": 2.0, "faint": 1.2}
"""By class; the last class of an element counts, as in the style sheet."""
_FAINT = 0.45


def svg_picture(chart: str) -> Image.Image:
    """Draws a line or scatter chart made with ``eval.drawing.svg``: RGB on white, ``SHARPNESS`` pixels for each unit.

    Raises:
        ValueError: Another kind of chart.
    """
    root = ElementTree.fromstring(chart)
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    scale = SHARPNESS * _SMOOTHING
    image = Image.new("RGB", (round(width * scale), round(height * scale)), "white")
    # "RGBA" blends what is drawn over what is there.
    pen = _Pen(ImageDraw.Draw(image, "RGBA"), scale, dict(re.findall(r"--(\w+):(#\w+)", chart)[::-1]))
    for element in root.iter():
        pen.draw(element)
    return image.resize((round(width * SHARPNESS), round(height * SHARPNESS)), Image.Resampling.LANCZOS)


class _Pen:
    def __init__(self, draw: ImageDraw.ImageDraw, scale: int, colors: dict[str, str]) -> None:
        self._draw, self._scale, self._colors = draw, scale, colors
        self._font = ImageFont.load_default(_FONT_SIZE * scale)

    def draw(self, element: ElementTree.Element) -> None:
        given = element.attrib
        match element.tag.rpartition("}")[2]:
            case "path":
                self._path(given)
            case "polyline":
                self._polyline(given)
            case "rect":
                self._rectangle(given)
            case "circle":
                self._dot(given)
            case "text":
                self._text(given, element.text or "")
            case "svg" | "style" | "a" | "title":
                pass
            case other:
                raise ValueError(f"no line or scatter chart has a {other}.")

    def _path(self, given: dict[str, str]) -> None:
        found = re.fullmatch(r"M([\d.-]+) ([\d.-]+)(H|V)([\d.-]+)", given["d"])
        if not found:
            raise ValueError(f"no line or scatter chart has the path {given['d']}.")
        x, y, end = float(found[1]), float(found[2]), float(found[4])
        self._line([(x, y), (end, y) if found[3] == "H" else (x, end)], given, self._color("rule"))

    def _polyline(self, given: dict[str, str]) -> None:
        points = [(float(x), float(y)) for x, y in (point.split(",") for point in given["points"].split())]
        opacity = _FAINT if "faint" in given["class"] else 1.0
        self._line(points, given, self._color(given["stroke"], opacity))

    def _line(self, points: list[tuple[float, float]], given: dict[str, str], color: tuple[int, ...]) -> None:
        width = [_WIDTHS[name] for name in given["class"].split() if name in _WIDTHS][-1]
        scaled = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.line(scaled, color, round(width * self._scale), joint="curve")

    def _rectangle(self, given: dict[str, str]) -> None:
        x, y, width, height = (float(given[name]) * self._scale for name in ("x", "y", "width", "height"))
        color = self._color(given["fill"], float(given.get("fill-opacity", 1)))
        self._draw.rectangle((x, y, x + width, y + height), color)

    def _dot(self, given: dict[str, str]) -> None:
        x, y, radius = (float(given[name]) * self._scale for name in ("cx", "cy", "r"))
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), self._color(given["fill"]))

    def _text(self, given: dict[str, str], content: str) -> None:
        place = (float(given["x"]) * self._scale, float(given["y"]) * self._scale)
        color = self._color("ink" if given.get("class") == "ink" else "soft")
        self._draw.text(place, content, color, self._font, anchor=_ANCHORS[given["text-anchor"]])

    def _color(self, name: str, opacity: float = 1.0) -> tuple[int, ...]:
        name = name.removeprefix("var(--").removesuffix(")")
        return (*ImageColor.getrgb(self._colors[name])[:3], round(255 * opacity))
