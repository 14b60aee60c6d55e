"""Files that published data sets bring along: CelebA's tables, degrees of smile, arrays of faces, lists of pairs."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from eval.verification.pairs_file import read_pairs_file
from shards.sources import SOURCES
from shards.sources.base import Source
from tests.campaigns.area import Area, Case, Change
from tests.campaigns.damage import draw_bytes, draw_place, make

_FACES = np.arange(64 * 64 * 20, dtype=np.uint32).astype(np.uint8).reshape(20, 64, 64)
_UTKFACE = [f"{20 + number}_0_1_2017010100000000{number}.jpg" for number in range(4)]
_TEXTS = {
    "celeba/list_attr_celeba.txt": "2\nSmiling Male\n000001.jpg 1 -1\n000002.jpg -1 1\n",
    "celeba/identity_CelebA.txt": "000001.jpg 7\n000002.jpg 12\n",
    "celeba/list_eval_partition.txt": "000001.jpg 0\n000002.jpg 2\n",
    "celeba_csv/list_attr_celeba.csv": "image_id,Smiling,Male\n000001.jpg,1,-1\n000002.jpg,-1,1\n",
    "celeba_csv/list_eval_partition.csv": "image_id,partition\n000001.jpg,0\n000002.jpg,1\n",
    "degrees/degrees.csv": "stimulus_filename,avg_encode\n" + "".join(f"{name},0.5\n" for name in _UTKFACE),
    "pairs/pairs.txt": "2 1\nAnn 1 2\nAnn 1 Bob 1\nBob 1 2\nBob 2 Ann 2\n",
}
_LINES = (
    "", " ", "\0", "0", "3", "0 0", "-1 -1", "000001.jpg", "000001.jpg 1 1 1 1 1", "000002.jpg 7", "000001.jpg -9",
    "000001.jpg,nan", "000001.jpg 1e9", "000001.jpg " + "9" * 400, "9" * 5000, '"', 'a,"b', "\ufeff3", "..\u2028x 1",
    "../../x.jpg 1", "Ann 0 1", "Ann 1 Ann 1", "Ann 1 99999999999999999999", f"{_UTKFACE[0]},1e400", ",", "\t",
)  # fmt: skip


class Published(Area):
    """A small copy of each."""

    title = "tables, arrays and lists of published data sets"
    uses = ("celeba", "celeba", "celeba_csv", "degrees", "mat", "npz", "pairs")

    def __init__(self, home: Path, bait: Path) -> None:
        """Writes them; nothing opens the images of the tables."""
        super().__init__(home, bait)
        for name in ("celeba", "celeba_csv"):
            (home / name / "img_align_celeba").mkdir(parents=True)
            for number in (1, 2):
                (home / name / "img_align_celeba" / f"{number:06d}.jpg").touch()
        for name in ("degrees", "mat", "npz", "pairs"):
            (home / name).mkdir()
        for name in _UTKFACE:
            (home / "degrees" / name).touch()
        for name, text in _TEXTS.items():
            (home / name).write_text(text)
        columns = np.stack([face.T.reshape(-1) for face in _FACES], axis=1)
        scipy.io.savemat(home / "mat" / "olivettifaces.mat", {"faces": columns}, do_compression=True)
        np.savez_compressed(home / "npz" / "olivetti.npz", faces=_FACES, people=np.arange(20) // 10)

    def draw(self, rng: random.Random, use: str) -> list[Change]:
        """One or two lines, bytes or places."""
        return [self._draw_one(rng, use) for _ in range(rng.choice((1, 1, 2)))]

    def _draw_one(self, rng: random.Random, use: str) -> Change:
        files = sorted(path for path in (self.home / use).iterdir() if path.is_file() and path.suffix != ".jpg")
        path = rng.choice(files)
        name, how = str(path.relative_to(self.home)), rng.random()
        if how < 0.1:
            return draw_place(rng, name)
        if how < 0.6 and name in _TEXTS:
            return Change("line", name, [rng.randrange(_TEXTS[name].count("\n")), rng.choice(_LINES)])
        return draw_bytes(rng, name, path.stat().st_size)

    def use(self, folder: Path, case: Case) -> Any:
        """Opens the source and reads the labels of all its images, or reads the pairs."""
        shutil.copytree(self.home / case.use, folder / case.use)
        for change in case.changes:
            if change.kind == "line":
                _put_line(folder / change.where, *change.value)
            else:
                make(change, folder)
        if case.use == "pairs":
            pairs = read_pairs_file(folder / "pairs" / "pairs.txt")
            return {"keys": pairs.keys, "same": pairs.same.tolist(), "folds": pairs.fold.tolist()}
        source = _open(case.use, folder)
        return {"fields": source.fields, "labels": [dict(source[i].labels) for i in range(len(source))]}

    def accepts(self, good: Any, found: Any, said: str, case: Case) -> bool:
        """Nothing has a checksum here: whatever is still a table is another table."""
        return True


def _open(use: str, folder: Path) -> Source:
    name = {"celeba_csv": "celeba", "degrees": "utkface", "mat": "olivetti", "npz": "olivetti"}.get(use, use)
    options = {"degrees": folder / "degrees" / "degrees.csv"} if use == "degrees" else {}
    entry = SOURCES[name]
    return entry.open(entry.config_class(input=folder / use, **options), 16)


def _put_line(path: Path, number: int, text: str) -> None:
    if path.is_file() and not path.is_symlink():
        lines = path.read_bytes().split(b"\n")
        lines[min(number, len(lines) - 1)] = text.encode()
        path.write_bytes(b"\n".join(lines))
