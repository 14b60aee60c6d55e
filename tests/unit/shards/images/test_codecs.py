"""Images survive encoding, and damage is named instead of decoded."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.base.errors import UserError
from shards.dataset.manifest import ImageFormat
from shards.images.codecs import CODECS, Codec, Option, decode, encode, find_codec
from shards.index import index
from shards.loading.reader import Reader
from shards.packing.options import PackOptions
from shards.packing.pack import pack_source
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource

HEIGHT, WIDTH = 48, 40
ROUND_TRIPS: list[tuple[str, dict[str, Any], int]] = [
    # Extension, options, largest error of a smooth picture in gray levels.
    ("jpg", {}, 6),
    ("jpg", {"quality": 100}, 4),
    ("png", {}, 0),
    ("webp", {}, 24),
    ("webp", {"lossless": True}, 0),
    ("raw", {}, 0),
]


def picture(channels: int) -> np.ndarray:
    """A smooth picture whose channels and axes all differ, uint8 (48, 40, channels)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [128 + 100 * np.sin(x / 9 + channel) * np.cos(y / 7 - channel) for channel in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def image_format(extension: str, channels: int, height: int = HEIGHT, width: int = WIDTH) -> ImageFormat:
    return ImageFormat(height, width, channels, extension)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("extension", "options", "tolerance"), ROUND_TRIPS)
def test_round_trip(extension: str, options: dict[str, Any], tolerance: int, channels: int) -> None:
    image = picture(channels)
    decoded = decode(encode(image, extension, **options), image_format(extension, channels))
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() <= tolerance


@pytest.mark.parametrize("extension", CODECS)
def test_decodes_into_a_batch(extension: str) -> None:
    data = encode(picture(3), extension)
    batch = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    decoded = decode(data, image_format(extension, 3), batch[1])
    assert np.shares_memory(decoded, batch)
    assert np.array_equal(batch[1], decode(data, image_format(extension, 3)))
    assert not batch[0].any()
    assert not batch[2].any()


def test_view_with_strides_encodes_as_its_copy() -> None:
    flipped = picture(3)[:, ::-1]
    for extension in CODECS:
        assert encode(flipped, extension) == encode(flipped.copy(), extension)


def test_jpeg_keeps_full_color_resolution() -> None:
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, ::2] = (220, 40, 40)
    stripes[:, 1::2] = (40, 40, 220)
    decoded = decode(encode(stripes, "jpg"), image_format("jpg", 3))
    assert np.abs(decoded.astype(int) - stripes).mean() < 10


def test_quality_changes_the_size() -> None:
    for extension in ("jpg", "webp"):
        assert len(encode(picture(3), extension, quality=30)) < len(encode(picture(3), extension, quality=95))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extension", CODECS)
def test_truncated_and_foreign_bytes_are_refused(extension: str, channels: int) -> None:
    data = encode(picture(channels), extension)
    expected = image_format(extension, channels)
    for damaged in (data[: len(data) // 2], data[:7], b"", b"\x00" * len(data) + b"\x00"):
        with pytest.raises(ValueError, match=extension):
            decode(damaged, expected)


@pytest.mark.parametrize("extension", CODECS)
def test_another_size_is_refused(extension: str) -> None:
    data = encode(picture(3), extension)
    sizes = [(HEIGHT + 1, WIDTH), (HEIGHT - 1, WIDTH), (HEIGHT, WIDTH + 1), (HEIGHT // 2, WIDTH // 2)]
    if extension != "raw":
        # As many bytes, so raw pixels cannot show the difference.
        sizes.append((WIDTH, HEIGHT))
    for height, width in sizes:
        with pytest.raises(ValueError, match=extension):
            decode(data, image_format(extension, 3, height, width))


@pytest.mark.parametrize(
    ("extension", "options", "sentence"),
    [
        ("gif", {}, "no image codec 'gif'; it has jpg, png, webp, raw"),
        ("jpg", {"quality": 0}, "from 1 to 100, not 0"),
        ("jpg", {"quality": 101}, "from 1 to 100, not 101"),
        ("jpg", {"quality": True}, "from 1 to 100, not True"),
        ("webp", {"lossless": 1}, "lossless must be true or false, not 1"),
        ("png", {"quality": 90}, "png has no option 'quality'; its options: none"),
        ("jpg", {"lossless": True}, "its options: quality"),
        ("webp", {"lossless": True, "quality": 90}, "one of the two"),
    ],
)
def test_bad_options_say_what_to_do(extension: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        encode(picture(3), extension, **options)


@pytest.mark.parametrize(
    "image", [picture(3).astype(np.float32), picture(3)[:, :, 0], picture(3)[:, :, :2], picture(3)[:0]]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode(image, "png")


def test_a_packing_sets_the_default_quality() -> None:
    assert find_codec("jpg").settings() == find_codec("webp").settings(quality=None) == {"quality": 95}
    assert find_codec("jpg").settings(quality=80) == {"quality": 80}
    assert find_codec("png").settings() == find_codec("raw").settings() == {}
    with pytest.raises(UserError, match="png has no option 'quality'"):
        find_codec("png").settings(quality=80)


def deflate(image: np.ndarray, level: int) -> bytes:
    return zlib.compress(image.tobytes(), level)


def inflate(data: bytes, out: np.ndarray) -> None:
    out[...] = np.frombuffer(zlib.decompress(data), np.uint8).reshape(out.shape)


def test_a_new_codec_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = Option("a whole number from 0 to 9", lambda value: value in range(10), default=6)
    monkeypatch.setitem(CODECS, "deflated", Codec("deflated", deflate, inflate, {"level": level}))
    source = SyntheticSource(SyntheticConfig(num=120), 16)
    options = {"size": 16, "samples_per_shard": 50, "workers": 1}
    packed = pack_source(source, PackOptions(output=tmp_path / "new", codec="deflated", **options))
    assert packed.image.codec_options == {"level": 6}
    whole = pack_source(source, PackOptions(output=tmp_path / "raw", codec="raw", **options))
    rows = np.arange(packed.num_samples("train"))
    new, raw = (np.empty((len(rows), 16, 16, 3), np.uint8) for _ in range(2))
    Reader(packed, "train").read_images(rows, new)
    Reader(whole, "train").read_images(rows, raw)
    assert np.array_equal(new, raw)
    # A lost index of these shards can be made again, too.
    index_bytes = (tmp_path / "new" / "index.safetensors").read_bytes()
    (tmp_path / "new" / "index.safetensors").unlink()
    index(tmp_path / "new")
    assert (tmp_path / "new" / "index.safetensors").read_bytes() == index_bytes
