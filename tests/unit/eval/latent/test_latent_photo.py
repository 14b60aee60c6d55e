"""A user's own image files: good ones are prepared as packing does, bad ones are one sentence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.latent import photo
from eval.latent.photo import load_photo
from shards.base.errors import UserError
from shards.images.reading import Preparation, open_image, prepare

SHAPE = (3, 16, 16)


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 90)], axis=-1).astype(np.uint8))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to have a great many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def truncated(path: Path) -> None:
    picture(300, 300).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:1500])


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "empty file"),
    "truncated": (truncated, "truncated"),
    "svg": (lambda path: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>'), "not an image"),
    "text": (lambda path: path.write_text("hello"), "not an image"),
    "postscript": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
    "bomb": (lambda path: path.write_bytes(bomb(60_000, 60_000)), "80 million pixels"),
    "small_bomb": (lambda path: path.write_bytes(bomb(9_500, 9_500)), "80 million pixels"),
    "float": (lambda path: Image.new("F", (20, 20)).save(path, "TIFF"), "unsupported pixel type"),
    "directory": (lambda path: path.mkdir(), "not a regular file"),
    "missing": (lambda path: None, "missing file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_photo_is_one_sentence(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    make, reason = HOSTILE[name]
    path = tmp_path / "photo.jpg"
    make(path)
    with pytest.raises(UserError, match=reason) as caught:
        load_photo(path, SHAPE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_a_file_of_too_many_bytes_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "photo.png")
    monkeypatch.setattr(photo, "MAX_BYTES", 100)
    monkeypatch.setattr(photo, "open_image", lambda path: pytest.fail("opened"))
    with pytest.raises(UserError, match="give a smaller copy"):
        load_photo(tmp_path / "photo.png", SHAPE)


def test_a_photo_is_prepared_as_packing_prepares_it(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.png")
    packed, _ = prepare(open_image(tmp_path / "photo.png"), Preparation(16, 3, None, "lanczos"))
    np.testing.assert_array_equal(load_photo(tmp_path / "photo.png", SHAPE), packed)


def test_crops_in_pixels_and_fractions(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.png")
    pixels = load_photo(tmp_path / "photo.png", SHAPE, crop="30,0,60,30")
    np.testing.assert_array_equal(pixels, load_photo(tmp_path / "photo.png", SHAPE, crop="0.5,0,1,0.75"))
    assert pixels[..., 0].mean() > load_photo(tmp_path / "photo.png", SHAPE)[..., 0].mean() + 30
    with pytest.raises(UserError, match="has 60x40 pixels, give another --crop"):
        load_photo(tmp_path / "photo.png", SHAPE, crop="0,0,50,50")
    with pytest.raises(UserError, match="has no area"):
        load_photo(tmp_path / "photo.png", SHAPE, crop="9,9,2,2")


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    image = picture(40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown a quarter turn clockwise.
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    image.save(tmp_path / "upright.png")
    upright = load_photo(tmp_path / "upright.png", SHAPE)
    np.testing.assert_array_equal(load_photo(tmp_path / "photo.png", SHAPE), upright)


def test_modes_are_converted_to_the_models(tmp_path: Path) -> None:
    expected = load_photo(_saved(picture(), tmp_path / "rgb.png"), SHAPE).astype(int)
    cmyk = load_photo(_saved(picture().convert("CMYK"), tmp_path / "cmyk.jpg", quality=100), SHAPE)
    assert np.abs(cmyk - expected).mean() < 4
    gray = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    deep = load_photo(_saved(Image.fromarray(gray), tmp_path / "deep.png"), SHAPE)
    assert deep[0].mean() < 20 and deep[-1].mean() > 235  # And not clipped to white.
    clear = load_photo(_saved(Image.new("RGBA", (20, 20), (0, 0, 0, 0)), tmp_path / "clear.png"), SHAPE)
    assert (clear == 255).all()
    assert load_photo(tmp_path / "rgb.png", (1, 16, 16)).shape == (16, 16, 1)


def test_models_of_other_than_square_images_refuse_photos(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are 16x20"):
        load_photo(tmp_path / "photo.png", (3, 16, 20))


def _saved(image: Image.Image, path: Path, **options: int) -> Path:
    image.save(path, **options)
    return path
