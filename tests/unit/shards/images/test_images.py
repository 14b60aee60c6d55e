"""Opening and preparing images: every mode and every kind of damage."""

from __future__ import annotations

import errno
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bad_images import jpeg_of_scans
from shards.base import retrying
from shards.base.errors import UserError
from shards.images.reading import (
    BadImage,
    Preparation,
    TimedBytes,
    crop_box,
    decode_image,
    open_image,
    open_image_bytes,
    parse_crop,
    prepare,
)


def preparation(size: int = 8, channels: int = 3, crop: tuple[float, float, float, float] | None = None) -> Preparation:
    return Preparation(size, channels, crop, "lanczos")


def pixel(image: Image.Image, channels: int = 3) -> list[int]:
    prepared, _ = prepare(image, preparation(channels=channels))
    assert prepared.shape == (8, 8, channels) and prepared.dtype == np.uint8
    return prepared[4, 4].tolist()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels worth the name."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (8, 8), (10, 20, 30)), [10, 20, 30]),
        (Image.new("L", (8, 8), 70), [70, 70, 70]),
        (Image.new("1", (8, 8), 1), [255, 255, 255]),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), [255, 255, 255]),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 128)), [127, 127, 127]),
        (Image.new("LA", (8, 8), (0, 0)), [255, 255, 255]),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), [255, 0, 0]),
        (Image.new("RGB", (8, 8), (200, 0, 0)).quantize(4), [200, 0, 0]),
    ],
    ids=["rgb", "gray", "bilevel", "transparent", "half transparent", "gray alpha", "cmyk", "palette"],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: list[int]) -> None:
    assert pixel(image) == expected


def test_transparent_palette_is_laid_over_white() -> None:
    image = Image.new("RGB", (8, 8), (200, 0, 0)).quantize(4)
    image.info["transparency"] = image.getpixel((0, 0))
    assert pixel(image) == [255, 255, 255]


def test_16_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert pixel(open_image(tmp_path / "deep.png")) == [128, 128, 128]


@pytest.mark.parametrize("largest", [1023, 65535])
def test_gray_of_more_than_8_bit_from_portable_anymaps(tmp_path: Path, largest: int) -> None:
    pixels = np.full((8, 8), round(largest * 0.6), ">u2")
    (tmp_path / "deep.pgm").write_bytes(f"P5\n8 8\n{largest}\n".encode() + pixels.tobytes())
    assert pixel(open_image(tmp_path / "deep.pgm")) == [153, 153, 153]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_color_profile_of_3_mb_is_no_damage(tmp_path: Path, suffix: str) -> None:
    profile = np.random.default_rng(0).bytes(3_000_000)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / f"print.{suffix}", icc_profile=profile)
    assert pixel(open_image(tmp_path / f"print.{suffix}"))[0] > 190


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_trouble_of_the_machine_is_not_a_damaged_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    whole, errors = Image.open, [error]

    def sometimes(*args: Any, **options: Any) -> Image.Image:
        if errors:
            raise errors.pop()
        return whole(*args, **options)

    monkeypatch.setattr(retrying, "_PAUSES_SEC", (0.0,))
    monkeypatch.setattr(Image, "open", sometimes)
    assert open_image(tmp_path / "good.png").size == (8, 8)
    errors += [error, error]
    with pytest.raises(UserError, match="good.png could not be read in 2 tries"):
        open_image(tmp_path / "good.png")


def test_float_pixels_are_refused_by_name() -> None:
    with pytest.raises(BadImage, match="unsupported pixel type F"):
        prepare(Image.new("F", (8, 8)), preparation())


def test_gray_output() -> None:
    assert pixel(Image.new("RGB", (8, 8), (255, 0, 0)), channels=1) == [76]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright, _ = prepare(open_image(tmp_path / "turned.png"), preparation(size=16))
    assert upright[:, 8:].min() == 255 and upright[:, :8].max() == 0


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    data = whole.read_bytes()
    stream = zlib.compress(b"\0" * 100)
    files = {
        "empty file": b"",
        "not an image": b"just some text, named like a photograph",
        "truncated image": data[: len(data) // 2],
        "damaged image": png_header(4, 4).replace(stream, b"\xff" * len(stream)),
        "more than 80 million pixels": png_header(10_000, 8_500),
    }
    for reason, content in files.items():
        (tmp_path / "bad.jpg").write_bytes(content)
        with pytest.raises(BadImage) as error:
            open_image(tmp_path / "bad.jpg")
        assert error.value.reason == reason, reason


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def test_scans_are_counted_where_a_decoder_finds_them() -> None:
    good, bad = jpeg_of_scans(100), jpeg_of_scans(101)
    start_of_scan = b"\xff\xda" * 5_000
    for data in (
        good,
        good[:2] + segment(0xFE, start_of_scan) + good[2:],  # In a comment.
        good + start_of_scan,  # Behind the end, as phones append a film.
        good[:2] + b"\xff" * 40_000 + good[2:],  # Padding.
    ):
        assert open_image_bytes(data).size == (40, 40)
    last_scan = bad.rindex(b"\xff\xda")
    for data in (
        bad,
        bad[:2] + segment(0xFE, bytes(16_380)) + bad[2:],  # A marker on the border of two blocks.
        bad[:last_scan] + b"\xff\x02\xff\xff" + bad[last_scan:],  # An unknown marker whose length hides the rest.
    ):
        with pytest.raises(BadImage, match="more than 100 scans"):
            open_image_bytes(data)


def test_an_image_that_takes_too_long_is_given_up() -> None:
    data = jpeg_of_scans(100, (2400, 2400))
    begun = time.monotonic()
    with pytest.raises(BadImage, match="takes too long to decode"):
        decode_image(TimedBytes(data, 0.1))
    given_up = time.monotonic() - begun
    assert decode_image(TimedBytes(data, 60)).size == (2400, 2400)
    assert given_up < (time.monotonic() - begun) / 2


def test_bomb_beyond_pillows_own_limit_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    with pytest.raises(BadImage, match="more than 80 million pixels"):
        open_image(tmp_path / "bomb.png")


def test_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="not a regular file"):
        open_image(tmp_path)
    with pytest.raises(BadImage, match="missing file"):
        open_image(tmp_path / "nothing.jpg")


def test_crop_in_pixels_takes_exactly_the_box() -> None:
    pixels = np.zeros((250, 250, 3), np.uint8)
    pixels[92:176, 83:167] = 255
    prepared, enlarged = prepare(Image.fromarray(pixels), preparation(84, crop=(83, 92, 167, 176)))
    assert prepared.min() == 255 and not enlarged


@pytest.mark.parametrize("size", [(178, 218), (89, 109), (356, 436)])
def test_fractional_crop_stays_square_at_every_scale(size: tuple[int, int]) -> None:
    left, upper, right, lower = crop_box(size, (15 / 178, 40 / 218, 163 / 178, 188 / 218))
    assert right - left == lower - upper == size[0] * 148 // 178
    assert abs(upper / size[1] - 40 / 218) < 0.01


def test_default_crop_is_the_centered_square() -> None:
    assert crop_box((100, 60), None) == (20, 0, 80, 60)


def test_image_smaller_than_the_box_is_bad() -> None:
    with pytest.raises(BadImage, match="smaller than the crop box"):
        prepare(Image.new("RGB", (100, 250)), preparation(crop=(83, 92, 167, 176)))


def test_enlarging_is_reported() -> None:
    assert prepare(Image.new("RGB", (7, 9)), preparation(8))[1]
    assert not prepare(Image.new("RGB", (8, 9)), preparation(8))[1]


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    prepared, _ = prepare(Image.fromarray(stripes), preparation(64))
    assert np.ptp(prepared[:, 4:-4].astype(int)) <= 2


def test_parse_crop() -> None:
    default = (1.0, 2.0, 3.0, 4.0)
    assert parse_crop("auto", default) == default
    assert parse_crop("center", default) is None
    assert parse_crop("83,92,167,176", None) == (83, 92, 167, 176)
    for wrong in ("middle", "1,2,3", "5,5,5,9", "9,0,3,4", "nan,0,1,1", "0,0,inf,9", "0.5,0,9,9", "-1,0,5,5"):
        with pytest.raises(UserError, match="crop"):
            parse_crop(wrong, None)
