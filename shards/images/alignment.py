"""Aligns faces: five landmarks, a similarity transform to a named template, any size and margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from PIL import Image

from shards.base.errors import UserError
from shards.images.detector import DetectedFace, FaceChoice, choose_face, find_faces
from shards.images.reading import BadImage, Preparation, prepare, to_mode

TemplateName = Literal["lfw", "celeba", "facenet", "arcface", "ffhq"]
NO_FACE = "no face found"
"""The reason that counts images without a face."""
MAX_TURN_DEGREES = 60.0
"""Largest turn of a face in the picture. Beyond it the detector, which knows upright faces, misses many and misplaces
the landmarks of others: of 8 faces of LFW it finds 6 at a turn of 90 degrees, up to 22 degrees off, and 3 at 150."""
TURNED = f"face turned by more than {MAX_TURN_DEGREES:.0f} degrees"
"""The reason that counts images whose face is too far from upright."""
FACELESS = (NO_FACE, TURNED)
"""Reasons why an image cannot be aligned."""

# Landmarks in the order of detector.LANDMARKS, as fractions of the aligned picture. The first three are means of
# what the detector finds in 600 images: aligned pictures frame faces as those data sets do.
# python tests/benchmarks/landmark_templates.py LFW CELEBA 600
_TEMPLATES: dict[str, tuple[tuple[float, float], ...]] = {
    "lfw": ((0.2545, 0.2622), (0.7584, 0.2424), (0.5039, 0.5490), (0.2999, 0.7927), (0.7220, 0.7749)),
    "celeba": ((0.3672, 0.4799), (0.6234, 0.4735), (0.4931, 0.6504), (0.3915, 0.7863), (0.5971, 0.7812)),
    "facenet": ((0.3220, 0.3816), (0.6597, 0.3685), (0.4893, 0.5741), (0.3521, 0.7373), (0.6350, 0.7255)),
    # Deng et al., ArcFace, CVPR 2019: pixels of 112x112.
    "arcface": (
        (38.2946 / 112, 51.6963 / 112),
        (73.5318 / 112, 51.5014 / 112),
        (56.0252 / 112, 71.7366 / 112),
        (41.5493 / 112, 92.3655 / 112),
        (70.7299 / 112, 92.2041 / 112),
    ),
}


@dataclass(frozen=True)
class Alignment:
    """How faces are aligned.

    Attributes:
        template: ``lfw`` and ``celeba`` frame faces as ``shards.pack`` frames those data sets by default, ``facenet``
            as the 160x160 crops that facenet trains on, ``arcface`` tightly, ``ffhq`` by the rule with which FFHQ was
            made.
        margin: Widens the picture by this share of the template's side, both sides together; 0.1375 turns facenet's
            160 pixels into its 182.
        face: Which one of several faces.
        without_face: Whether an image without a face is skipped, or cropped without alignment.
    """

    template: TemplateName = "lfw"
    margin: float = 0.0
    face: FaceChoice = "center"
    without_face: Literal["skip", "crop"] = "skip"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: An unknown template, or a margin that leaves nothing.
        """
        if self.template not in get_args(TemplateName):
            known = ", ".join(get_args(TemplateName))
            raise UserError(f"there is no alignment template '{self.template}'; known are {known}.")
        if not -0.9 < self.margin <= 10:
            raise UserError(f"the margin of an alignment must be above -0.9 and at most 10, not {self.margin}.")


def align(image: Image.Image, size: int, alignment: Alignment) -> tuple[Image.Image, bool]:
    """Finds the face and brings it to the template.

    Args:
        image: Any mode; upright.
        size: Side of the square result in pixels.
        alignment: Template, margin, and which of several faces.

    Returns:
        RGB (size, size), and whether the face had to be enlarged. Pixels outside the image mirror those inside.

    Raises:
        BadImage: No face was found, or one that is turned too far, or pixels without a defined range.
        UserError: The extra ``align`` is not installed.
    """
    image = to_mode(image, "RGB")
    face = choose_face(find_faces(image), image.size, alignment.face)
    if face is None:
        raise BadImage(NO_FACE)
    if abs(turn_of(face)) > MAX_TURN_DEGREES:
        raise BadImage(TURNED)
    return warp(image, frame_of(face, alignment), size)


def prepare_aligned(
    image: Image.Image | np.ndarray, preparation: Preparation, alignment: Alignment
) -> tuple[np.ndarray, bool, bool]:
    """As ``shards.images.reading.prepare``, with the face aligned.

    Returns:
        uint8 (size, size, channels), whether the image had to be enlarged, and whether a face was found.

    Raises:
        BadImage: As ``prepare``, and for a reason of ``FACELESS`` where such images are skipped.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.squeeze())
    try:
        aligned, enlarged = align(image, preparation.size, alignment)
    except BadImage as error:
        if error.reason not in FACELESS or alignment.without_face == "skip":
            raise
        return *prepare(image, preparation), False
    return prepare(aligned, replace(preparation, crop=None))[0], enlarged, True


def frame_of(face: DetectedFace, alignment: Alignment) -> np.ndarray:
    """The transform from the image to the aligned picture.

    Returns:
        float64 (2, 3): maps x, y, 1 in pixels of the image to fractions of the aligned picture, as a rotation, one
        scale and a shift.
    """
    if alignment.template == "ffhq":
        matrix = _ffhq_frame(face.landmarks)
    else:
        matrix = similarity(face.landmarks, np.array(_TEMPLATES[alignment.template]))
    wider = 1 + alignment.margin
    return matrix / wider + np.array([[0, 0, 0.5], [0, 0, 0.5]]) * (1 - 1 / wider)


def turn_of(face: DetectedFace) -> float:
    """How far a face is turned from upright, in degrees from -180 to 180; positive clockwise."""
    upright = similarity(np.array(_TEMPLATES["arcface"]), face.landmarks)
    return float(np.degrees(np.arctan2(upright[1, 0], upright[0, 0])))


def template_landmarks(alignment: Alignment) -> np.ndarray | None:
    """Where alignment moves the landmarks, float64 (5, 2) of the picture's side; None for ffhq, where faces differ."""
    if alignment.template not in _TEMPLATES:
        return None
    return (np.array(_TEMPLATES[alignment.template]) + alignment.margin / 2) / (1 + alignment.margin)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity transform that maps points to others with least squared error (Umeyama 1991).

    Args:
        source: (N, 2).
        target: (N, 2).

    Returns:
        float64 (2, 3), without reflection.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    # In two dimensions, rotation and scale are one complex number, fitted by least squares.
    spread = (a**2).sum()
    real = (a * b).sum() / spread
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    turn = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


def warp(image: Image.Image, matrix: np.ndarray, size: int) -> tuple[Image.Image, bool]:
    """Applies ``frame_of``'s transform without aliasing.

    Returns:
        The picture (size, size), and whether it is an enlargement.
    """
    import cv2

    scale = size * float(np.hypot(*matrix[:, 0]))
    pixels = np.asarray(image)
    if scale < 1:
        # Shrinks first, with a filter of the right width; the warp then only rotates and shifts.
        shrunk = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        back = np.diag([image.width / shrunk[0], image.height / shrunk[1]])
        # The center of pixel 0 is at 0.5 in both pictures.
        matrix = np.column_stack([matrix[:, :2] @ back, matrix[:, 2]])
        pixels = np.asarray(image.resize(shrunk, Image.Resampling.LANCZOS))
    # OpenCV's coordinates start at the center of pixel 0.
    half = np.array([0.5, 0.5])
    in_pixels = size * matrix
    in_pixels[:, 2] += in_pixels[:, :2] @ half - half
    warped = cv2.warpAffine(pixels, in_pixels, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return Image.fromarray(warped), scale > 1


def _ffhq_frame(landmarks: np.ndarray) -> np.ndarray:
    """FFHQ's square (Karras et al. 2019): placed and sized by the eyes' and the mouth's middle.

    FFHQ, too, takes the mean of the corners as the mouth.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    across, down = landmarks[1] - landmarks[0], mouth - eyes
    x = across - np.array([-down[1], down[0]])
    x *= max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    center = eyes + down * 0.1
    corners = np.stack([center - x - y, center - x + y, center + x + y, center + x - y])
    return similarity(corners, np.array([[0.0, 0], [0, 1], [1, 1], [1, 0]]))
