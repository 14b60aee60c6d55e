"""The spread of landmarks over images before and after alignment, and how often a face is found.

    python tests/benchmarks/alignment.py FOLDER OUT.json [--num 2000] [--template lfw] [--size 128]

The spread is the standard deviation of a landmark's position over images, averaged (root mean square) over the five
landmarks and both directions, in units of the mean distance between the eyes. After alignment, the detector finds the
landmarks again; only images in which it finds a face both times count.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shards.images.alignment import Alignment, frame_of, warp
from shards.images.detector import DetectedFace, choose_face, find_faces
from shards.images.reading import open_image
from shards.sources.files.listing import list_files


def spread(faces: list[DetectedFace]) -> dict[str, float | list[float]]:
    """Spread over images, in distances between the eyes: of all landmarks, and of each."""
    landmarks = np.array([face.landmarks for face in faces])
    eyes = np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1)
    variances = landmarks.var(axis=0) / eyes.mean() ** 2
    return {
        "all": float(np.sqrt(variances.mean())),
        "of_each": np.sqrt(variances.mean(axis=1)).round(5).tolist(),
        "eyes_distance_px": float(eyes.mean()),
        "eyes_angle_std_deg": float(np.degrees(np.arctan2(*(landmarks[:, 1] - landmarks[:, 0]).T[::-1])).std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--template", default="lfw")
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    files = list_files(options.folder)[0]
    chosen = np.linspace(0, len(files) - 1, min(options.num, len(files))).astype(int)
    alignment = Alignment(options.template)
    before, after, num_found, num_several, seconds = [], [], 0, 0, 0.0
    for position in tqdm(chosen, disable=None):
        image = open_image(options.folder / files[position]).convert("RGB")
        start = time.perf_counter()
        faces = find_faces(image)
        face = choose_face(faces, image.size, alignment.face)
        num_several += len(faces) > 1
        if face is None:
            continue
        aligned, _ = warp(image, frame_of(face, alignment), options.size)
        seconds += time.perf_counter() - start
        num_found += 1
        again = choose_face(find_faces(aligned), aligned.size, "center")
        if again is not None:
            before.append(face)
            after.append(again)
    first, second = spread(before), spread(after)
    result = {
        "folder": options.folder.name,
        "template": options.template,
        "size": options.size,
        "num_images": len(chosen),
        "found": num_found,
        "several_faces": num_several,
        "found_again": len(after),
        "spread_before": first,
        "spread_after": second,
        "ratio": float(second["all"]) / float(first["all"]),  # type: ignore[arg-type]
        "seconds_per_image": seconds / max(num_found, 1),
        "machine": f"{platform.machine()}, one thread",
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
